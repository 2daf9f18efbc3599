//! What `list` prints, to the letter, but for what differs from run to run.

use std::fs;

use mapwal::Lsn;

use crate::advice::{LAST, archived, cut, note, objects, two_epochs};
use crate::copies::archive;
use crate::logs::{append_up_to, open};
use crate::place::{Place, make_log};

/// The lines, with `#` for what no test knows: bytes, identities of logs, checksums.
fn lines(place: &Place, words: &str) -> Vec<String> {
    let ran = place.run(words);
    assert_eq!(ran.err, "", "{words}");
    let shown = |line: &str| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for at in 1..words.len() {
            if ["B", "KiB", "MiB", "KiB,", "MiB,"].contains(&&*words[at]) {
                words[at - 1] = "#".to_owned();
            }
            if words[at - 1] == "log" && words[at].len() >= 32 {
                words[at] = "#:".to_owned();
            }
        }
        words.join(" ")
    };
    ran.out.lines().map(shown).collect()
}

const HEAD: &str = "EPOCH LSN NUMBERS SEGMENTS PARTS BYTES";

#[test]
fn a_list_of_a_sound_archive_of_a_continued_one_and_of_a_pruned_one() {
    let place = two_epochs();
    let count = |place: &Place, epoch| (objects(place, epoch, ".seg").len(), objects(place, epoch, ".part").len());
    let of = |epoch| count(&place, epoch);
    let begins = place.run("list URL --format json").json()["epochs"][1]["begins_at"].clone();
    let rows = [
        HEAD.to_owned(),
        format!("1 1..{LAST} {LAST} {} {} # KiB", of(1).0, of(1).1),
        format!("2 1..{0} {0} {1} {2} # KiB continues 1 at record {begins}", LAST + 100, of(2).0, of(2).1),
        "log #: 2 epochs, # KiB".to_owned(),
    ];
    assert_eq!(lines(&place, "list URL"), rows);
    let with_objects = lines(&place, "list URL --objects");
    assert_eq!(with_objects.len(), rows.len() + of(1).0 + of(1).1 + of(2).0 + of(2).1);
    let first = objects(&place, 1, ".seg").remove(0);
    let name = first.file_name().unwrap().to_str().unwrap();
    let last = name[21..41].parse::<u64>().unwrap() - 1;
    assert_eq!(with_objects[2], format!("1..{last} 0000000001/{name}"));
    place.run("prune URL --before 300").done();
    let pruned = lines(&place, "list URL");
    assert_eq!(pruned[3], "log #: 2 epochs, # KiB, pruned before record 300 or an earlier one");
}

#[test]
fn a_list_of_records_that_are_missing_or_were_given_up_before_an_epoch() {
    let place = Place::new();
    make_log(&place.path("log"), 300);
    archive(&place, ("log", "archive"), "", (1, 300));
    let log = open(&place.path("log"));
    log.drop_pin("archive").unwrap();
    append_up_to(&log, 1, 900);
    log.trim_before(Lsn(800)).unwrap();
    let first = log.first_lsn().0;
    log.close().unwrap();
    archive(&place, ("log", "archive"), "", (2, 900));
    let row = |are: &str| {
        let (numbers, count) = (900 - first + 1, (objects(&place, 2, ".seg").len(), objects(&place, 2, ".part").len()));
        format!("2 {first}..900 {numbers} {} {} # KiB records 301..{} before it {are}", count.0, count.1, first - 1)
    };
    let listed = lines(&place, "list URL");
    assert_eq!(listed[2], row("are missing"));
    assert_eq!(listed[3], format!("epoch 2: records 301..{}, before its first one, are missing", first - 1));
    assert!(listed.len() == 5 && listed[4].starts_with("log #: 2 epochs, # "), "{listed:?}");
    place.run(&format!("prune URL --before {first} --give-up-gaps")).done();
    let listed = lines(&place, "list URL");
    assert_eq!(listed[1], row("were given up"));
    assert_eq!(listed.len(), 3, "{listed:?}");
}

#[test]
fn a_list_of_what_is_wrong_says_what_can_be_done() {
    let of_object = "of a damaged object: put a sound copy in its place; or move it out of the archive, and keep it: `run` uploads it again, \
                     at its next start or check, if it is of the epoch that the log is archived in, and the log still has it";
    let of_note = "of a note: put a sound copy in its place; or let rebuild-note make it again from the epoch's objects; or, if a later \
                   epoch has taken its place, let forget-epoch delete what is left of it; if nothing is left, rebuild-note with --begins \
                   has the epoch that continues it begin with what that has";
    let place = archived();
    let all = objects(&place, 1, ".seg");
    cut(&all[1]);
    fs::remove_file(&all[2]).unwrap();
    let name = all[1].file_name().unwrap().to_str().unwrap();
    let (len, first, next) = (&name[53..63], &name[..20], &all[2].file_name().unwrap().to_str().unwrap()[..41]);
    let number = |digits: &str| digits.parse::<u64>().unwrap();
    let (from, to) = (number(&next[..20]), number(&next[21..]) - 1);
    assert!(number(first) < from);
    let listed = lines(&place, "list URL");
    // Up to before the damaged one.
    let end = number(first) - 1;
    let row = format!("1 1..{end} {end} {} ", all.len() - 1);
    assert!(listed[1].starts_with(&row) && listed[1].ends_with(" # KiB not whole"), "{listed:?}");
    assert_eq!(
        listed[2..5],
        [
            format!("epoch 1: 0000000001/{name} is damaged: {} bytes instead of {}", number(len) - 7, number(len)),
            format!("epoch 1: records {from}..{to} are missing"),
            of_object.to_owned(),
        ]
    );
    fs::write(note(&place, 1), "{").unwrap();
    let listed = lines(&place, "list URL");
    assert!(listed[1].starts_with("1 - 0 ") && listed[1].ends_with(" not whole"), "{listed:?}");
    assert_eq!(listed[3], "epoch 1: 0000000001/epoch.json is damaged: it cannot be read from line 1, column 1 on");
    assert_eq!(listed[4..6], [of_object, of_note]);
    assert_eq!(listed[6], "log unknown: 1 epoch, # KiB");
}

#[test]
fn a_list_of_parts_that_a_restore_leaves_out() {
    let (place, part) = crate::advice::part_beside();
    assert!(part.exists());
    let listed = lines(&place, "list URL");
    let told = "epoch 1: 1 segment has parts beside what a restore takes: verify compares them, and prune deletes those that a sealed \
                segment has";
    assert_eq!(listed[2], told);
    assert_eq!(place.run("list URL").code, Some(0));
}
