//! On a terminal: keys, signals, widths, and progress.
//!
//! Planted, and noticed: settings of the terminal that are not put back, TERM and HUP that are not caught, progress of what is done
//! at once, progress that is not shown.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::logs::{closed, live, scratch, synced};
use crate::program::{PROGRAM, Ran, Running, plain, run, start};

/// Runs lines of a shell on a terminal of their own, with the program in `$M`; what came on the terminal. `None` if there is no
/// `script(1)` that could.
fn on_terminal(directory: &Path, lines: &str) -> Option<String> {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: there is no script(1)");
        return None;
    }
    fs::write(directory.join("lines"), lines).unwrap();
    let mut script = plain("script");
    script.args(["-qfec", "sh lines", "typescript"]).current_dir(directory).env("M", PROGRAM).stdin(Stdio::null());
    let output = script.env("TERM", "xterm").stdout(Stdio::null()).output().unwrap();
    let shown = fs::read_to_string(directory.join("typescript")).unwrap();
    assert!(output.status.success(), "{shown}");
    // Without what script(1) writes around it.
    let own = |line: &&str| !line.starts_with("Script started on ") && !line.starts_with("Script done on ");
    Some(shown.lines().filter(own).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_terminal_is_as_it_was_after_any_end() {
    let directory = scratch();
    let log = directory.path().join("log");
    fs::rename(closed(10).keep(), &log).unwrap();
    for (command, end) in [
        ("tail log", "kill -TERM $pid"),
        ("tail log", "kill -HUP $pid"),
        ("tail log", "kill -INT $pid"),
        ("tail log --since-last-run ./position", "kill -TERM $pid"),
        ("stat log --watch", "kill -TERM $pid"),
        ("stat log --watch", "kill -HUP $pid"),
    ] {
        // The program has the settings changed once it takes single keys.
        let lines = format!(
            "stty -g > before\nenv --default-signal=INT,TERM,HUP $M {command} < /dev/tty & pid=$!\nn=0\n\
             while stty -a | grep -q ' icanon'; do sleep 0.02; n=$((n+1)); [ $n -lt 3000 ] || exit 1; done\n\
             {end}\nwait $pid || exit 2\nstty -g > after\n"
        );
        if on_terminal(directory.path(), &lines).is_none() {
            return;
        }
        let settings = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(settings("before"), settings("after"), "{command}: {end}");
    }
}

#[test]
fn what_ends_by_itself_reads_no_keys() {
    let directory = scratch();
    // It has a directory there once it listens.
    let lines = "$M bench . --seconds 600 < /dev/tty & pid=$!\nn=0\n\
                 until ls -d mapwal-bench-*; do sleep 0.02; n=$((n+1)); [ $n -lt 3000 ] || exit 1; done\n\
                 stty -a > while\nkill -TERM $pid\nwait $pid\n[ $? = 4 ]\n";
    if on_terminal(directory.path(), lines).is_some() {
        let settings = fs::read_to_string(directory.path().join("while")).unwrap();
        assert!(settings.contains(" icanon") && settings.contains(" echo "), "{settings}");
    }
}

#[test]
fn a_signal_that_was_ignored_is_ignored() {
    let log = scratch();
    let mut writer = live(log.path(), 1);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh", PROGRAM, "tail", "--from", "start"]).arg(log.path());
    let mut tail = shell.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || printed.next().map(|line| line.unwrap().split('\t').next().unwrap().to_owned());
    // Signals are caught before anything is shown.
    assert_eq!(next().as_deref(), Some("1"));
    let pid = Pid::from_child(&tail);
    for (number, signal) in [(2, Signal::HUP), (3, Signal::INT)] {
        kill_process(pid, signal).unwrap();
        writer.say("more");
        assert_eq!(next(), Some(number.to_string()), "{signal:?}");
    }
    // What was asked for by the first is done by then: it looks once for each record.
    writer.say("more");
    assert_eq!(next().as_deref(), Some("4"));
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(tail.wait().unwrap().code(), Some(0));
}

#[test]
fn what_goes_on_ends_with_0_by_each_signal() {
    let log = closed(10);
    for command in ["tail DIR --from start", "stat DIR --watch"] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let mut going = Running::start(log.path(), command);
            // Signals are caught before anything is shown of a second look, or of the end of the log.
            let shown = if command.starts_with("tail") { 10 } else { 1 };
            (0..shown).for_each(|_| assert!(going.line().is_some()));
            if command.starts_with("stat") {
                while !going.line().unwrap().starts_with("last ") {}
            }
            going.signal(signal);
            assert_eq!(going.child.wait().unwrap().code(), Some(0), "{command}: {signal:?}");
        }
    }
}

#[test]
fn progress_is_shown_of_what_takes_longer_than_a_second() {
    let directory = scratch();
    fs::rename(synced(1200).keep(), directory.path().join("log")).unwrap();
    let quick = "for command in verify stat segments dump; do $M $command log > /dev/null; done\n$M backup log copy\n";
    let Some(shown) = on_terminal(directory.path(), quick) else { return };
    assert!(!shown.contains('['), "{shown}");
    // An input that goes on until it is shown.
    let slow = "n=0; while ! grep -q 'append.*KiB' typescript; do\n\
                n=$((n+1)); [ $n -lt 1000 ] || exit 1; sleep 0.02; cat log/*1.seg | tr -cd 'a-z0-9' | head -c 2000; echo\n\
                done | $M append other --sync none > /dev/null\ngrep -q 'append.*KiB' typescript\n";
    let shown = on_terminal(directory.path(), slow).unwrap();
    let drawn = shown.lines().find(|line| line.contains("append ")).unwrap_or_else(|| panic!("{shown}"));
    assert!(drawn.is_ascii(), "{drawn}");
}

#[test]
fn progress_is_shown_of_each_command_that_goes_through_a_log() {
    let directory = scratch();
    let log = directory.path().join("log");
    fs::rename(closed(4000).keep(), &log).unwrap();
    // Each file takes a while to be opened.
    let slow = "strace -f -qq -o calls -e trace=openat -e inject=openat:delay_enter=100000";
    std::thread::scope(|scope| {
        for command in ["verify", "salvage", "backup", "repair", "diff"] {
            let (own, log) = (directory.path().join(command), log.display().to_string());
            scope.spawn(move || {
                fs::create_dir(&own).unwrap();
                let second = match command {
                    "salvage" | "backup" => "copy",
                    "diff" => &log,
                    _ => "",
                };
                let lines = format!("strace -o probe true || exit 0\n{slow} $M {command} {log} {second} > /dev/null\n");
                let Some(shown) = on_terminal(&own, &lines) else { return };
                if !own.join("calls").exists() {
                    eprintln!("SKIPPED: strace is not there, or must not trace");
                    return;
                }
                let bar = if command == "repair" { "verify [" } else { &format!("{command} [") };
                assert!(shown.contains(bar), "{command}: {shown}");
            });
        }
    });
}

#[test]
fn progress_is_shown_of_what_is_measured() {
    let directory = scratch();
    let lines = "$M bench . --seconds 600 < /dev/null & pid=$!\nn=0\n\
                 until grep -q 'bench \\[' typescript; do sleep 0.1; n=$((n+1)); [ $n -lt 600 ] || break; done\n\
                 kill -TERM $pid\nwait $pid\n[ $n -lt 600 ]\n";
    if let Some(shown) = on_terminal(directory.path(), lines) {
        assert!(shown.contains("/80 "), "steps, of which there are so many: {shown}");
    }
}

#[test]
fn a_narrow_and_a_wide_terminal_change_nothing_but_the_help_and_tables() {
    let log = synced(1200);
    run(log.path(), "pins DIR add p 1").done();
    // The tables are those of `narrow`.
    for command in
        ["verify DIR --format json", "stat DIR --format json", "meta DIR", "dump DIR", "--help", "tail --help"]
    {
        let of = |columns: &str| {
            let ran = Ran::new(start(log.path(), command).env("COLUMNS", columns).output().unwrap()).done();
            ran.text().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let [narrow, wide] = ["20", "300"].map(of);
        // Words are broken where the lines end, and by nothing else.
        assert!(command.contains("help") || narrow == wide, "{command}");
        assert_eq!(narrow.replace(' ', "").len(), wide.replace(' ', "").len(), "{command}");
    }
}

#[test]
fn no_pager_is_started_and_colours_are_for_terminals_that_want_them() {
    let directory = scratch();
    let log = directory.path().join("log");
    let writer = live(&log, 10);
    let pager = directory.path().join("pager");
    for (variables, has_colours) in [("", true), ("NO_COLOR=1", false), ("TERM=dumb", false), ("CLICOLOR=0", false)] {
        let lines = format!("PAGER='touch pager' {variables} $M verify log\n{variables} $M dump missing || true\n");
        let Some(shown) = on_terminal(directory.path(), &lines) else { return };
        assert_eq!(shown.contains("\u{1b}["), has_colours, "{variables}: {shown:?}");
        assert!(shown.contains(": 10 records in "), "{shown}");
    }
    assert!(!pager.exists());
    drop(writer);
}
