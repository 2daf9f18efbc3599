//! Ways to damage a log.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fastrand::Rng;

use super::original::{number_of, path_of};
use crate::logs::segments;

/// Damages a log in one way, which is said.
pub(super) fn spoil(random: &mut Rng, log: &Path) -> Option<String> {
    let files = segments(log);
    let control = log.join("control");
    let path = random.choice(&files)?;
    let other = match random.u8(..4) {
        0 => path_of(log, number_of(files.last()?) + random.u64(1..3)),
        1 => path_of(log, number_of(&files[0]).saturating_sub(random.u64(1..3)).max(1)),
        _ => random.choice(&files)?.clone(),
    };
    let len = fs::metadata(path).unwrap().len();
    let place = |random: &mut Rng, len: u64| match random.u8(..6) {
        0 => random.u64(..64),
        1 => 4096 + random.u64(..72),
        2 => len.saturating_sub(random.u64(1..400)),
        _ => random.u64(..len.max(1)),
    };
    let (name, to) = (number_of(path), number_of(&other));
    let said = match random.u8(..14) {
        0..4 => format!("flip {name} {} bit {}", place(random, len), random.u8(..8)),
        4 => {
            let (at, many) = (place(random, len), *random.choice(&[8, 64, 500, 20_000]).unwrap());
            format!("zero {name} {at} to {}", (at + many).min(len).max(at))
        }
        5 => {
            let anywhere = random.u64(..=len);
            let to = *random.choice(&[0, 4096, 4200, anywhere, len.saturating_sub(1)]).unwrap();
            format!("cut {name} to {to}")
        }
        6 => format!("extend {name} by {}", random.choice(&[1, 4096, 70_000]).unwrap()),
        7 | 8 => format!("remove {name}"),
        9 if other.exists() && name != to => format!("swap {name} and {to}"),
        10 if name != to => format!("copy {name} over {to}"),
        11 => format!("rename {name} to {to}"),
        12 if control.exists() => {
            let word = *random.choice(&[0, 1, 2, 5, 7, 9, 80, 81, 82, 83, 84, 85, 88, 89, 90, 91, 92, 93]).unwrap();
            format!("flip control {} bit {}", 8 * word + random.u64(..8), random.u8(..8))
        }
        _ if control.exists() => "remove control".to_owned(),
        _ => return None,
    };
    spoil_as(&said, log);
    Some(said)
}

/// Damages a log in the way that is said: as [`spoil`] says it.
pub(super) fn spoil_as(said: &str, log: &Path) {
    let words: Vec<&str> = said.split(' ').collect();
    let file = |name: &str| name.parse().map_or_else(|_| log.join(name), |number| path_of(log, number));
    let number = |word: &str| word.parse::<u64>().unwrap();
    let set_len =
        |name: &str, len: u64| fs::File::options().write(true).open(file(name)).unwrap().set_len(len).unwrap();
    match words[..] {
        ["flip", name, at, "bit", bit] => flip(&file(name), number(at), number(bit) as u8),
        ["zero", name, at, "to", end] => {
            let zeros = vec![0; (number(end) - number(at)) as usize];
            fs::File::options().write(true).open(file(name)).unwrap().write_all_at(&zeros, number(at)).unwrap();
        }
        ["cut", name, "to", len] => set_len(name, number(len)),
        ["extend", name, "by", more] => set_len(name, fs::metadata(file(name)).unwrap().len() + number(more)),
        ["remove", name] => fs::remove_file(file(name)).unwrap(),
        ["copy", name, "over", to] => drop(fs::copy(file(name), file(to)).unwrap()),
        ["rename", name, "to", to] => fs::rename(file(name), file(to)).unwrap(),
        ["swap", name, "and", to] => {
            fs::rename(file(name), log.join("aside")).unwrap();
            fs::rename(file(to), file(name)).unwrap();
            fs::rename(log.join("aside"), file(to)).unwrap();
        }
        _ => panic!("{said}"),
    }
}

pub(super) fn flip(path: &Path, at: u64, bit: u8) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    if file.read_exact_at(&mut byte, at).is_ok() {
        file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
    }
}
