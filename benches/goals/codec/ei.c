/* The codec's peer in C: the same specs and statuses through `ei`, into structs and from them.
 *
 * Text is copied, as `ei_decode_binary` does it and programs in C have to if they outlive the
 * frame; or it stays in the frame, as it does on the other side, by `ei_decode_bitstring`, which
 * gives a pointer. Keys are copied by `ei_decode_atom`; there is no other way. What is allocated
 * is freed within the time that is measured, also as on the other side.
 *
 * usage: ei DIR, with spec.etf and status.etf in DIR. Each line of input is a task:
 *   decode|borrow|encode spec|status COUNT   answered with nanoseconds for COUNT times; borrow
 *                                            decodes too, and leaves the text in the frame
 *   check spec|status 1                      reads, writes DIR/CASE.ei, and answers 0
 */
#include <ei.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TRY(call)                                                                                  \
  do {                                                                                             \
    if ((call) < 0) return -1;                                                                     \
  } while (0)

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

typedef struct { const char *bytes; size_t length; } Text; /* bytes is NULL where nil was */
typedef struct { int present; long value; } Number;
typedef struct { Text *items; int count; } Texts;
typedef struct { Text key, value; } Pair;
typedef struct { Text volume, path; int read_only; } Mount;
typedef struct { Number memory, pids; int has_cpu; long quota_us, period_us; } Limits;
typedef struct {
  Text name, image, working_dir, user;
  Texts command, args;
  Pair *env; int env_count;
  Mount *mounts; int mount_count;
  Limits limits;
  int tty;
} Container;
typedef struct { Text name; int is_host; Text host; } Volume;
typedef struct { Text name, parent, address, gateway; int mode; long prefix; } Nic;
typedef struct {
  Text name;
  int restart;
  Nic *nics; int nic_count;
  Texts dns;
  Volume *volumes; int volume_count;
  Container *containers; int container_count;
} Pod;

typedef struct { Text name; Number host_pid; } ContainerStatus;
enum exit_kind { NO_EXIT, EXITED, SIGNALED };
typedef struct {
  Text name;
  int status, phase;
  long retries, generation, incarnation;
  Text reason;
  enum exit_kind exit_kind; long exit;
  Number last_exit_at_ms, started_at_ms, retry_in_ms, host_pid;
  ContainerStatus *containers; int container_count;
} Status;
typedef struct { Status *items; int count; } Statuses;

static const char *const RESTARTS[] = {"always", "on_failure", "never"};
static const char *const MODES[] = {"macvlan", "bridge", "ipvlan"};
static const char *const STATUSES[] = {"starting", "running", "stopping", "backing_off", "terminal"};
static const char *const PHASES[] = {"launching", "running",  "restarting", "deleting",
                                     "sweeping",  "waiting", "done"};

/* Decoding */

static int borrows; /* leaves text in the frame */

static int atom(const char *buf, int *at, char *text) { return ei_decode_atom(buf, at, text); }

static int one_of(const char *buf, int *at, const char *const *names, int count, int *out) {
  char text[MAXATOMLEN];
  TRY(atom(buf, at, text));
  for (int n = 0; n < count; n++) {
    if (strcmp(text, names[n]) == 0) {
      *out = n;
      return 0;
    }
  }
  return -1;
}

static int is_nil(const char *buf, int *at) {
  int type, size, next = *at;
  char text[MAXATOMLEN];
  if (ei_get_type(buf, at, &type, &size) < 0 || type != ERL_ATOM_EXT) return 0;
  if (ei_decode_atom(buf, &next, text) < 0 || strcmp(text, "nil") != 0) return 0;
  *at = next;
  return 1;
}

static int borrowed_text(const char *buf, int *at, Text *out) {
  unsigned int offset;
  size_t bits;
  TRY(ei_decode_bitstring(buf, at, &out->bytes, &offset, &bits));
  out->length = bits / 8;
  return 0;
}

static int copied_text(const char *buf, int *at, Text *out) {
  int type, size;
  long length;
  TRY(ei_get_type(buf, at, &type, &size));
  char *bytes = malloc(size + 1);
  if (!bytes || ei_decode_binary(buf, at, bytes, &length) < 0) {
    free(bytes);
    return -1;
  }
  bytes[length] = '\0';
  *out = (Text){bytes, length};
  return 0;
}

static int text(const char *buf, int *at, Text *out) {
  return borrows ? borrowed_text(buf, at, out) : copied_text(buf, at, out);
}

static void free_text(Text text) {
  if (!borrows) free((char *)text.bytes);
}

static void free_texts(Texts texts) {
  for (int n = 0; n < texts.count; n++) free_text(texts.items[n]);
  free(texts.items);
}

static int text_or_nil(const char *buf, int *at, Text *out) {
  return is_nil(buf, at) ? 0 : text(buf, at, out);
}

static int number_or_nil(const char *buf, int *at, Number *out) {
  if (is_nil(buf, at)) return 0;
  out->present = 1;
  return ei_decode_long(buf, at, &out->value);
}

static int list(const char *buf, int *at, size_t size, void *items, int *count) {
  TRY(ei_decode_list_header(buf, at, count));
  *(void **)items = *count ? calloc(*count, size) : NULL;
  return 0;
}

static int end_of_list(const char *buf, int *at, int count) {
  int none;
  return count ? ei_decode_list_header(buf, at, &none) : 0;
}

static int texts(const char *buf, int *at, Texts *out) {
  TRY(list(buf, at, sizeof(Text), &out->items, &out->count));
  for (int n = 0; n < out->count; n++) TRY(text(buf, at, &out->items[n]));
  return end_of_list(buf, at, out->count);
}

static int environment(const char *buf, int *at, Container *out) {
  TRY(ei_decode_map_header(buf, at, &out->env_count));
  out->env = calloc(out->env_count, sizeof(Pair));
  for (int n = 0; n < out->env_count; n++) {
    TRY(text(buf, at, &out->env[n].key));
    TRY(text(buf, at, &out->env[n].value));
  }
  return 0;
}

static int mount(const char *buf, int *at, Mount *out) {
  int entries;
  char key[MAXATOMLEN];
  TRY(ei_decode_map_header(buf, at, &entries));
  while (entries--) {
    TRY(atom(buf, at, key));
    if (strcmp(key, "volume") == 0) TRY(text(buf, at, &out->volume));
    else if (strcmp(key, "path") == 0) TRY(text(buf, at, &out->path));
    else if (strcmp(key, "read_only") == 0) TRY(ei_decode_boolean(buf, at, &out->read_only));
    else return -1;
  }
  return 0;
}

static int cpu(const char *buf, int *at, Limits *out) {
  int arity;
  if (is_nil(buf, at)) return 0;
  out->has_cpu = 1;
  TRY(ei_decode_tuple_header(buf, at, &arity));
  if (arity != 2) return -1;
  TRY(ei_decode_long(buf, at, &out->quota_us));
  return ei_decode_long(buf, at, &out->period_us);
}

static int limits(const char *buf, int *at, Limits *out) {
  int entries;
  char key[MAXATOMLEN];
  TRY(ei_decode_map_header(buf, at, &entries));
  while (entries--) {
    TRY(atom(buf, at, key));
    if (strcmp(key, "memory") == 0) TRY(number_or_nil(buf, at, &out->memory));
    else if (strcmp(key, "pids") == 0) TRY(number_or_nil(buf, at, &out->pids));
    else if (strcmp(key, "cpu") == 0) TRY(cpu(buf, at, out));
    else return -1;
  }
  return 0;
}

static int mounts(const char *buf, int *at, Container *out) {
  TRY(list(buf, at, sizeof(Mount), &out->mounts, &out->mount_count));
  for (int n = 0; n < out->mount_count; n++) TRY(mount(buf, at, &out->mounts[n]));
  return end_of_list(buf, at, out->mount_count);
}

static int container(const char *buf, int *at, Container *out) {
  int entries;
  char key[MAXATOMLEN];
  TRY(ei_decode_map_header(buf, at, &entries));
  while (entries--) {
    TRY(atom(buf, at, key));
    if (strcmp(key, "name") == 0) TRY(text(buf, at, &out->name));
    else if (strcmp(key, "image") == 0) TRY(text(buf, at, &out->image));
    else if (strcmp(key, "command") == 0) TRY(texts(buf, at, &out->command));
    else if (strcmp(key, "args") == 0) TRY(texts(buf, at, &out->args));
    else if (strcmp(key, "env") == 0) TRY(environment(buf, at, out));
    else if (strcmp(key, "working_dir") == 0) TRY(text_or_nil(buf, at, &out->working_dir));
    else if (strcmp(key, "user") == 0) TRY(text_or_nil(buf, at, &out->user));
    else if (strcmp(key, "tty") == 0) TRY(ei_decode_boolean(buf, at, &out->tty));
    else if (strcmp(key, "mounts") == 0) TRY(mounts(buf, at, out));
    else if (strcmp(key, "limits") == 0) TRY(limits(buf, at, &out->limits));
    else return -1;
  }
  return 0;
}

static int source(const char *buf, int *at, Volume *out) {
  int type, size, arity;
  char tag[MAXATOMLEN];
  TRY(ei_get_type(buf, at, &type, &size));
  if (type == ERL_ATOM_EXT) {
    TRY(atom(buf, at, tag));
    return strcmp(tag, "managed") == 0 ? 0 : -1;
  }
  TRY(ei_decode_tuple_header(buf, at, &arity));
  TRY(atom(buf, at, tag));
  if (arity != 2 || strcmp(tag, "host") != 0) return -1;
  out->is_host = 1;
  return text(buf, at, &out->host);
}

static int volume(const char *buf, int *at, Volume *out) {
  int entries;
  char key[MAXATOMLEN];
  TRY(ei_decode_map_header(buf, at, &entries));
  while (entries--) {
    TRY(atom(buf, at, key));
    if (strcmp(key, "name") == 0) TRY(text(buf, at, &out->name));
    else if (strcmp(key, "source") == 0) TRY(source(buf, at, out));
    else return -1;
  }
  return 0;
}

static int address(const char *buf, int *at, Nic *out) {
  int arity;
  TRY(ei_decode_tuple_header(buf, at, &arity));
  if (arity != 2) return -1;
  TRY(text(buf, at, &out->address));
  return ei_decode_long(buf, at, &out->prefix);
}

static int nic(const char *buf, int *at, Nic *out) {
  int entries;
  char key[MAXATOMLEN];
  TRY(ei_decode_map_header(buf, at, &entries));
  while (entries--) {
    TRY(atom(buf, at, key));
    if (strcmp(key, "name") == 0) TRY(text(buf, at, &out->name));
    else if (strcmp(key, "mode") == 0) TRY(one_of(buf, at, MODES, COUNT(MODES), &out->mode));
    else if (strcmp(key, "parent") == 0) TRY(text(buf, at, &out->parent));
    else if (strcmp(key, "ip") == 0) TRY(address(buf, at, out));
    else if (strcmp(key, "gateway") == 0) TRY(text_or_nil(buf, at, &out->gateway));
    else return -1;
  }
  return 0;
}

static int network(const char *buf, int *at, Pod *out) {
  int entries;
  char key[MAXATOMLEN];
  TRY(ei_decode_map_header(buf, at, &entries));
  while (entries--) {
    TRY(atom(buf, at, key));
    if (strcmp(key, "nics") == 0) {
      TRY(list(buf, at, sizeof(Nic), &out->nics, &out->nic_count));
      for (int n = 0; n < out->nic_count; n++) TRY(nic(buf, at, &out->nics[n]));
      TRY(end_of_list(buf, at, out->nic_count));
    } else if (strcmp(key, "dns") == 0) {
      TRY(texts(buf, at, &out->dns));
    } else {
      return -1;
    }
  }
  return 0;
}

static int volumes(const char *buf, int *at, Pod *out) {
  TRY(list(buf, at, sizeof(Volume), &out->volumes, &out->volume_count));
  for (int n = 0; n < out->volume_count; n++) TRY(volume(buf, at, &out->volumes[n]));
  return end_of_list(buf, at, out->volume_count);
}

static int containers(const char *buf, int *at, Pod *out) {
  TRY(list(buf, at, sizeof(Container), &out->containers, &out->container_count));
  for (int n = 0; n < out->container_count; n++) TRY(container(buf, at, &out->containers[n]));
  return end_of_list(buf, at, out->container_count);
}

static int decode_pod(const char *buf, Pod *out) {
  int at = 0, version, entries;
  char key[MAXATOMLEN];
  memset(out, 0, sizeof *out);
  TRY(ei_decode_version(buf, &at, &version));
  TRY(ei_decode_map_header(buf, &at, &entries));
  while (entries--) {
    TRY(atom(buf, &at, key));
    if (strcmp(key, "name") == 0) TRY(text(buf, &at, &out->name));
    else if (strcmp(key, "restart") == 0)
      TRY(one_of(buf, &at, RESTARTS, COUNT(RESTARTS), &out->restart));
    else if (strcmp(key, "network") == 0) TRY(network(buf, &at, out));
    else if (strcmp(key, "volumes") == 0) TRY(volumes(buf, &at, out));
    else if (strcmp(key, "containers") == 0) TRY(containers(buf, &at, out));
    else return -1;
  }
  return 0;
}

static void free_container(Container *container) {
  free_text(container->name);
  free_text(container->image);
  free_text(container->working_dir);
  free_text(container->user);
  free_texts(container->command);
  free_texts(container->args);
  for (int n = 0; n < container->env_count; n++) {
    free_text(container->env[n].key);
    free_text(container->env[n].value);
  }
  free(container->env);
  for (int n = 0; n < container->mount_count; n++) {
    free_text(container->mounts[n].volume);
    free_text(container->mounts[n].path);
  }
  free(container->mounts);
}

static void free_pod(Pod *pod) {
  free_text(pod->name);
  for (int n = 0; n < pod->container_count; n++) free_container(&pod->containers[n]);
  free(pod->containers);
  for (int n = 0; n < pod->volume_count; n++) {
    free_text(pod->volumes[n].name);
    free_text(pod->volumes[n].host);
  }
  free(pod->volumes);
  for (int n = 0; n < pod->nic_count; n++) {
    free_text(pod->nics[n].name);
    free_text(pod->nics[n].parent);
    free_text(pod->nics[n].address);
    free_text(pod->nics[n].gateway);
  }
  free(pod->nics);
  free_texts(pod->dns);
}

static int last_exit(const char *buf, int *at, Status *out) {
  int arity;
  char tag[MAXATOMLEN];
  if (is_nil(buf, at)) return 0;
  TRY(ei_decode_tuple_header(buf, at, &arity));
  TRY(atom(buf, at, tag));
  if (arity != 2) return -1;
  if (strcmp(tag, "exited") == 0) out->exit_kind = EXITED;
  else if (strcmp(tag, "signaled") == 0) out->exit_kind = SIGNALED;
  else return -1;
  return ei_decode_long(buf, at, &out->exit);
}

static int container_status(const char *buf, int *at, ContainerStatus *out) {
  int entries;
  char key[MAXATOMLEN];
  TRY(text(buf, at, &out->name));
  TRY(ei_decode_map_header(buf, at, &entries));
  while (entries--) {
    TRY(atom(buf, at, key));
    if (strcmp(key, "host_pid") == 0) TRY(number_or_nil(buf, at, &out->host_pid));
    else return -1;
  }
  return 0;
}

static int container_statuses(const char *buf, int *at, Status *out) {
  TRY(ei_decode_map_header(buf, at, &out->container_count));
  out->containers = calloc(out->container_count, sizeof(ContainerStatus));
  for (int n = 0; n < out->container_count; n++)
    TRY(container_status(buf, at, &out->containers[n]));
  return 0;
}

static int status(const char *buf, int *at, Status *out) {
  int entries;
  char key[MAXATOMLEN];
  TRY(text(buf, at, &out->name));
  TRY(ei_decode_map_header(buf, at, &entries));
  while (entries--) {
    TRY(atom(buf, at, key));
    if (strcmp(key, "status") == 0)
      TRY(one_of(buf, at, STATUSES, COUNT(STATUSES), &out->status));
    else if (strcmp(key, "retries") == 0) TRY(ei_decode_long(buf, at, &out->retries));
    else if (strcmp(key, "phase") == 0) TRY(one_of(buf, at, PHASES, COUNT(PHASES), &out->phase));
    else if (strcmp(key, "reason") == 0) TRY(text_or_nil(buf, at, &out->reason));
    else if (strcmp(key, "last_exit") == 0) TRY(last_exit(buf, at, out));
    else if (strcmp(key, "last_exit_at_ms") == 0)
      TRY(number_or_nil(buf, at, &out->last_exit_at_ms));
    else if (strcmp(key, "started_at_ms") == 0) TRY(number_or_nil(buf, at, &out->started_at_ms));
    else if (strcmp(key, "retry_in_ms") == 0) TRY(number_or_nil(buf, at, &out->retry_in_ms));
    else if (strcmp(key, "generation") == 0) TRY(ei_decode_long(buf, at, &out->generation));
    else if (strcmp(key, "incarnation") == 0) TRY(ei_decode_long(buf, at, &out->incarnation));
    else if (strcmp(key, "host_pid") == 0) TRY(number_or_nil(buf, at, &out->host_pid));
    else if (strcmp(key, "containers") == 0) TRY(container_statuses(buf, at, out));
    else return -1;
  }
  return 0;
}

static int decode_statuses(const char *buf, Statuses *out) {
  int at = 0, version;
  TRY(ei_decode_version(buf, &at, &version));
  TRY(ei_decode_map_header(buf, &at, &out->count));
  out->items = calloc(out->count, sizeof(Status));
  for (int n = 0; n < out->count; n++) TRY(status(buf, &at, &out->items[n]));
  return 0;
}

static void free_status(Status *status) {
  free_text(status->name);
  free_text(status->reason);
  for (int n = 0; n < status->container_count; n++) free_text(status->containers[n].name);
  free(status->containers);
}

static void free_statuses(Statuses *statuses) {
  for (int n = 0; n < statuses->count; n++) free_status(&statuses->items[n]);
  free(statuses->items);
}

/* Encoding */

static int put_text(ei_x_buff *x, const Text *value) {
  return ei_x_encode_binary(x, value->bytes, value->length);
}

static int put_text_or_nil(ei_x_buff *x, const Text *value) {
  return value->bytes ? put_text(x, value) : ei_x_encode_atom(x, "nil");
}

static int put_number_or_nil(ei_x_buff *x, const Number *value) {
  return value->present ? ei_x_encode_long(x, value->value) : ei_x_encode_atom(x, "nil");
}

static int put_list(ei_x_buff *x, int count) {
  return count ? ei_x_encode_list_header(x, count) : 0;
}

static int put_texts(ei_x_buff *x, const Texts *values) {
  TRY(put_list(x, values->count));
  for (int n = 0; n < values->count; n++) TRY(put_text(x, &values->items[n]));
  return ei_x_encode_empty_list(x);
}

#define KEY(name) TRY(ei_x_encode_atom(x, name))

static int put_nic(ei_x_buff *x, const Nic *nic) {
  TRY(ei_x_encode_map_header(x, 5));
  KEY("name"); TRY(put_text(x, &nic->name));
  KEY("mode"); TRY(ei_x_encode_atom(x, MODES[nic->mode]));
  KEY("parent"); TRY(put_text(x, &nic->parent));
  KEY("ip");
  TRY(ei_x_encode_tuple_header(x, 2));
  TRY(put_text(x, &nic->address));
  TRY(ei_x_encode_long(x, nic->prefix));
  KEY("gateway"); return put_text_or_nil(x, &nic->gateway);
}

static int put_network(ei_x_buff *x, const Pod *pod) {
  TRY(ei_x_encode_map_header(x, 2));
  KEY("nics");
  TRY(put_list(x, pod->nic_count));
  for (int n = 0; n < pod->nic_count; n++) TRY(put_nic(x, &pod->nics[n]));
  TRY(ei_x_encode_empty_list(x));
  KEY("dns"); return put_texts(x, &pod->dns);
}

static int put_volume(ei_x_buff *x, const Volume *volume) {
  TRY(ei_x_encode_map_header(x, 2));
  KEY("name"); TRY(put_text(x, &volume->name));
  KEY("source");
  if (!volume->is_host) return ei_x_encode_atom(x, "managed");
  TRY(ei_x_encode_tuple_header(x, 2));
  TRY(ei_x_encode_atom(x, "host"));
  return put_text(x, &volume->host);
}

static int put_mount(ei_x_buff *x, const Mount *mount) {
  TRY(ei_x_encode_map_header(x, 3));
  KEY("volume"); TRY(put_text(x, &mount->volume));
  KEY("path"); TRY(put_text(x, &mount->path));
  KEY("read_only"); return ei_x_encode_boolean(x, mount->read_only);
}

static int put_limits(ei_x_buff *x, const Limits *limits) {
  TRY(ei_x_encode_map_header(x, 3));
  KEY("memory"); TRY(put_number_or_nil(x, &limits->memory));
  KEY("pids"); TRY(put_number_or_nil(x, &limits->pids));
  KEY("cpu");
  if (!limits->has_cpu) return ei_x_encode_atom(x, "nil");
  TRY(ei_x_encode_tuple_header(x, 2));
  TRY(ei_x_encode_long(x, limits->quota_us));
  return ei_x_encode_long(x, limits->period_us);
}

static int put_container(ei_x_buff *x, const Container *container) {
  TRY(ei_x_encode_map_header(x, 10));
  KEY("name"); TRY(put_text(x, &container->name));
  KEY("image"); TRY(put_text(x, &container->image));
  KEY("command"); TRY(put_texts(x, &container->command));
  KEY("args"); TRY(put_texts(x, &container->args));
  KEY("env");
  TRY(ei_x_encode_map_header(x, container->env_count));
  for (int n = 0; n < container->env_count; n++) {
    TRY(put_text(x, &container->env[n].key));
    TRY(put_text(x, &container->env[n].value));
  }
  KEY("working_dir"); TRY(put_text_or_nil(x, &container->working_dir));
  KEY("user"); TRY(put_text_or_nil(x, &container->user));
  KEY("tty"); TRY(ei_x_encode_boolean(x, container->tty));
  KEY("mounts");
  TRY(put_list(x, container->mount_count));
  for (int n = 0; n < container->mount_count; n++) TRY(put_mount(x, &container->mounts[n]));
  TRY(ei_x_encode_empty_list(x));
  KEY("limits"); return put_limits(x, &container->limits);
}

static int encode_pod(ei_x_buff *x, const Pod *pod) {
  TRY(ei_x_new_with_version(x));
  TRY(ei_x_encode_map_header(x, 5));
  KEY("name"); TRY(put_text(x, &pod->name));
  KEY("restart"); TRY(ei_x_encode_atom(x, RESTARTS[pod->restart]));
  KEY("network"); TRY(put_network(x, pod));
  KEY("volumes");
  TRY(put_list(x, pod->volume_count));
  for (int n = 0; n < pod->volume_count; n++) TRY(put_volume(x, &pod->volumes[n]));
  TRY(ei_x_encode_empty_list(x));
  KEY("containers");
  TRY(put_list(x, pod->container_count));
  for (int n = 0; n < pod->container_count; n++) TRY(put_container(x, &pod->containers[n]));
  return ei_x_encode_empty_list(x);
}

static int put_exit(ei_x_buff *x, const Status *status) {
  if (status->exit_kind == NO_EXIT) return ei_x_encode_atom(x, "nil");
  TRY(ei_x_encode_tuple_header(x, 2));
  TRY(ei_x_encode_atom(x, status->exit_kind == EXITED ? "exited" : "signaled"));
  return ei_x_encode_long(x, status->exit);
}

static int put_status(ei_x_buff *x, const Status *status) {
  TRY(put_text(x, &status->name));
  TRY(ei_x_encode_map_header(x, 12));
  KEY("status"); TRY(ei_x_encode_atom(x, STATUSES[status->status]));
  KEY("retries"); TRY(ei_x_encode_long(x, status->retries));
  KEY("phase"); TRY(ei_x_encode_atom(x, PHASES[status->phase]));
  KEY("reason"); TRY(put_text_or_nil(x, &status->reason));
  KEY("last_exit"); TRY(put_exit(x, status));
  KEY("last_exit_at_ms"); TRY(put_number_or_nil(x, &status->last_exit_at_ms));
  KEY("started_at_ms"); TRY(put_number_or_nil(x, &status->started_at_ms));
  KEY("retry_in_ms"); TRY(put_number_or_nil(x, &status->retry_in_ms));
  KEY("generation"); TRY(ei_x_encode_long(x, status->generation));
  KEY("incarnation"); TRY(ei_x_encode_long(x, status->incarnation));
  KEY("host_pid"); TRY(put_number_or_nil(x, &status->host_pid));
  KEY("containers");
  TRY(ei_x_encode_map_header(x, status->container_count));
  for (int n = 0; n < status->container_count; n++) {
    TRY(put_text(x, &status->containers[n].name));
    TRY(ei_x_encode_map_header(x, 1));
    KEY("host_pid"); TRY(put_number_or_nil(x, &status->containers[n].host_pid));
  }
  return 0;
}

static int encode_statuses(ei_x_buff *x, const Statuses *statuses) {
  TRY(ei_x_new_with_version(x));
  TRY(ei_x_encode_map_header(x, statuses->count));
  for (int n = 0; n < statuses->count; n++) TRY(put_status(x, &statuses->items[n]));
  return 0;
}

/* Tasks */

static char *contents(const char *dir, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s.etf", dir, name);
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  fseek(file, 0, SEEK_END);
  long length = ftell(file);
  rewind(file);
  char *bytes = malloc(length);
  if (fread(bytes, 1, length, file) != (size_t)length) return NULL;
  fclose(file);
  return bytes;
}

static int write_file(const char *dir, const char *name, const ei_x_buff *x) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s.ei", dir, name);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(x->buff, 1, x->index, file) != (size_t)x->index) return -1;
  return fclose(file);
}

static long long now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int decode_once(int is_spec, const char *bytes) {
  int result;
  if (is_spec) {
    Pod pod;
    result = decode_pod(bytes, &pod);
    free_pod(&pod);
  } else {
    Statuses statuses;
    result = decode_statuses(bytes, &statuses);
    free_statuses(&statuses);
  }
  return result;
}

static int encode_once(int is_spec, const Pod *pod, const Statuses *statuses) {
  ei_x_buff x;
  TRY(is_spec ? encode_pod(&x, pod) : encode_statuses(&x, statuses));
  return ei_x_free(&x);
}

static int check(const char *dir, const char *name, const Pod *pod, const Statuses *statuses) {
  ei_x_buff x;
  TRY(strcmp(name, "spec") == 0 ? encode_pod(&x, pod) : encode_statuses(&x, statuses));
  TRY(write_file(dir, name, &x));
  return ei_x_free(&x);
}

int main(int argc, char **argv) {
  char what[16], name[16];
  long count;
  Pod pod;
  Statuses statuses;
  if (argc != 2 || ei_init() != 0) return 2;
  char *spec_bytes = contents(argv[1], "spec"), *status_bytes = contents(argv[1], "status");
  if (!spec_bytes || !status_bytes) return 3;
  if (decode_pod(spec_bytes, &pod) < 0 || decode_statuses(status_bytes, &statuses) < 0) return 4;
  while (scanf("%15s %15s %ld", what, name, &count) == 3) {
    int is_spec = strcmp(name, "spec") == 0;
    if (strcmp(what, "check") == 0) {
      if (check(argv[1], name, &pod, &statuses) < 0) return 5;
      puts("0");
    } else {
      int is_decode = strcmp(what, "encode") != 0;
      borrows = strcmp(what, "borrow") == 0;
      long long start = now_ns();
      for (long n = 0; n < count; n++) {
        int result = is_decode ? decode_once(is_spec, is_spec ? spec_bytes : status_bytes)
                               : encode_once(is_spec, &pod, &statuses);
        if (result < 0) return 6;
      }
      printf("%lld\n", now_ns() - start);
    }
    fflush(stdout);
  }
  return 0;
}
