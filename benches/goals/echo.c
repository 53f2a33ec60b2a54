/*
 * The peer of a call over pipes: an ordinary port program. It blocks in read(2)
 * for the length of a frame and then for its content, answers with the same
 * frame in one write(2), and does nothing else.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_BYTES = 4 };

static int read_exactly(uint8_t *bytes, size_t count)
{
    while (count > 0) {
        ssize_t got = read(STDIN_FILENO, bytes, count);
        if (got <= 0)
            return 0;
        bytes += got;
        count -= got;
    }
    return 1;
}

static int write_exactly(const uint8_t *bytes, size_t count)
{
    while (count > 0) {
        ssize_t put = write(STDOUT_FILENO, bytes, count);
        if (put <= 0)
            return 0;
        bytes += put;
        count -= put;
    }
    return 1;
}

int main(void)
{
    size_t room = 64 << 10;
    uint8_t *frame = malloc(room);

    while (frame && read_exactly(frame, HEADER_BYTES)) {
        size_t length = (size_t)frame[0] << 24 | frame[1] << 16 | frame[2] << 8 | frame[3];
        if (HEADER_BYTES + length > room) {
            room = HEADER_BYTES + length;
            frame = realloc(frame, room);
            if (!frame)
                return 1;
        }
        if (!read_exactly(frame + HEADER_BYTES, length) ||
            !write_exactly(frame, HEADER_BYTES + length))
            return 1;
    }
    return 0;
}
