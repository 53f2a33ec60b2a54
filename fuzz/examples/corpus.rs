//! `corpus`: the kept inputs as files and back, and files through their target.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use tank_fuzz::{TARGETS, Target, target};

const USAGE: &str = "\
usage: corpus list                     the targets
       corpus unpack TARGET DIR        a file in DIR for each input that is kept
       corpus pack DIR                 the files in DIR, as the source of what is kept
       corpus replay TARGET FILE...    run the target on each file";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some(command) = Command::parse(&args) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corpus: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Command<'a> {
    List,
    Unpack(&'static Target, &'a Path),
    Pack(&'a Path),
    Replay(&'static Target, &'a [&'a str]),
}

impl<'a> Command<'a> {
    fn parse(args: &'a [&'a str]) -> Option<Self> {
        match args {
            ["list"] => Some(Self::List),
            ["unpack", name, dir] => Some(Self::Unpack(target(name)?, Path::new(dir))),
            ["pack", dir] => Some(Self::Pack(Path::new(dir))),
            ["replay", name, files @ ..] => Some(Self::Replay(target(name)?, files)),
            _ => None,
        }
    }

    fn run(self) -> io::Result<()> {
        match self {
            Self::List => TARGETS.iter().for_each(|target| println!("{}", target.name)),
            Self::Unpack(target, dir) => unpack(target, dir)?,
            Self::Pack(dir) => print!("{}", packed(&mut inputs_in(dir)?)),
            Self::Replay(target, files) => {
                for file in files {
                    (target.holds)(&read(Path::new(file))?);
                }
            }
        }
        Ok(())
    }
}

fn unpack(target: &Target, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir).map_err(|error| at(dir, error))?;
    for (index, input) in target.corpus.iter().enumerate() {
        let file = dir.join(format!("kept-{index:03}"));
        fs::write(&file, input).map_err(|error| at(&file, error))?;
    }
    Ok(())
}

fn inputs_in(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let entries = fs::read_dir(dir).map_err(|error| at(dir, error))?;
    entries.map(|entry| read(&entry?.path())).collect()
}

/// The shortest first, so that who reads the corpus sees what it is about.
fn packed(inputs: &mut [Vec<u8>]) -> String {
    inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
    let literals = inputs.iter().map(|input| format!("    b\"{}\",\n", input.escape_ascii()));
    format!("[\n{}]\n", literals.collect::<String>())
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    fs::read(file).map_err(|error| at(file, error))
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
