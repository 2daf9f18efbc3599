//! `stat --format prometheus`: text that is what OpenMetrics asks for, and that a collector of text files takes as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::logs::{closed, live, scratch, segments, synced, write_at};
use crate::program::{run, run_with_input};

/// A family of metrics, as its lines have it.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    unit: Option<String>,
    help: Option<String>,
    /// By name, with suffix, and labels.
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

/// Those that both OpenMetrics and the older format of text files know; an unknown one ends a collector's reading.
const KINDS: [&str; 4] = ["counter", "gauge", "summary", "histogram"];

/// The families of a text, or what is wrong with it.
fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in body.split_terminator('\n') {
        let wrong = |why: &str| Err(format!("{why}: {line}"));
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (Some(what), Some(name), Some(value)) = (words.next(), words.next(), words.next()) else {
                return wrong("no value");
            };
            if name != current {
                if families.contains_key(name) {
                    return wrong("the family is in two parts");
                }
                families.insert(name.to_owned(), Family::default());
                name.clone_into(&mut current);
            }
            let family = families.get_mut(name).unwrap();
            if !family.samples.is_empty() {
                return wrong("it comes after samples");
            }
            match what {
                "TYPE" if family.kind.is_empty() && KINDS.contains(&value) => value.clone_into(&mut family.kind),
                "UNIT" if family.unit.is_none() && name.ends_with(&format!("_{value}")) => {
                    family.unit = Some(value.to_owned());
                }
                "HELP" if family.help.is_none() && value.ends_with('.') => family.help = Some(unescape(value)?),
                _ => return wrong("not one of TYPE, UNIT and HELP, or twice, or not for this name"),
            }
        } else {
            let (name, labels, value) = sample(line)?;
            let family = families.get_mut(&current).ok_or("a sample of no family")?;
            check_sample(&current, family, &name, &labels, value).map_err(|why| format!("{why}: {line}"))?;
            if family.samples.insert((name, labels), value).is_some() {
                return wrong("twice");
            }
        }
    }
    let is_incomplete = |family: &&Family| family.kind.is_empty() || family.help.is_none() || family.samples.is_empty();
    match families.iter().find(|(_, family)| is_incomplete(family)) {
        Some((name, _)) => Err(format!("{name} has no type, help or sample")),
        None => Ok(families),
    }
}

fn check_sample(
    name: &str,
    family: &Family,
    sample: &str,
    labels: &BTreeMap<String, String>,
    value: f64,
) -> Result<(), String> {
    let suffix = sample.strip_prefix(name).ok_or("of another family")?;
    let quantile = labels.get("quantile").map(|quantile| quantile.parse::<f64>());
    let is_fine = match (&*family.kind, suffix) {
        ("counter", "_total") => value >= 0.0 && quantile.is_none(),
        ("gauge", "") => quantile.is_none(),
        ("summary", "") => matches!(quantile, Some(Ok(part)) if (0.0..=1.0).contains(&part)),
        ("summary", "_count" | "_sum") => value >= 0.0 && quantile.is_none(),
        _ => false,
    };
    let reserved = ["_total", "_created", "_count", "_sum", "_bucket", "_info"];
    match is_fine && value.is_finite() && !reserved.iter().any(|suffix| name.ends_with(suffix)) {
        true => Ok(()),
        false => Err("suffix, labels or value do not go with the type".to_owned()),
    }
}

/// Name, labels and value of a sample.
fn sample(line: &str) -> Result<(String, BTreeMap<String, String>, f64), String> {
    let wrong = |why: &str| format!("{why}: {line}");
    let (name, mut rest) = line.split_once('{').ok_or_else(|| wrong("no labels"))?;
    if !is_name(name) {
        return Err(wrong("no name"));
    }
    let mut labels = BTreeMap::new();
    loop {
        let (label, after) = rest.split_once("=\"").ok_or_else(|| wrong("no label"))?;
        let mut is_escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let (value, after) = after.split_at(end.ok_or_else(|| wrong("no end of a label"))?);
        if !is_name(label) || labels.insert(label.to_owned(), unescape(value)?).is_some() {
            return Err(wrong("a bad label, or one that comes twice"));
        }
        match after.strip_prefix("\",") {
            Some(next) => rest = next,
            None => {
                let value = after.strip_prefix("\"} ").ok_or_else(|| wrong("no end of the labels"))?;
                return Ok((name.to_owned(), labels, value.parse().map_err(|_| wrong("no number"))?));
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_letter) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn unescape(text: &str) -> Result<String, String> {
    let mut letters = text.chars();
    let mut out = String::new();
    while let Some(letter) = letters.next() {
        out.push(match letter {
            '\\' => match letters.next() {
                Some('n') => '\n',
                Some(c @ ('\\' | '"')) => c,
                other => return Err(format!("{other:?} is not to be escaped: {text}")),
            },
            '"' => return Err(format!("a quote: {text}")),
            letter => letter,
        });
    }
    Ok(out)
}

/// The families that are printed of a log.
#[track_caller]
fn scrape(log: &Path, code: i32) -> BTreeMap<String, Family> {
    let ran = run(log, "stat DIR --format prometheus");
    assert_eq!(ran.code, code, "{}", ran.err);
    parse(ran.text()).unwrap_or_else(|why| panic!("{why}\n{}", ran.text()))
}

/// The value of the one sample of a family that has these labels.
#[track_caller]
fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = families.get(name).unwrap_or_else(|| panic!("no {name}"));
    let has =
        |of: &BTreeMap<String, String>| labels.iter().all(|(name, value)| of.get(*name).is_some_and(|it| it == value));
    let found: Vec<f64> =
        family.samples.iter().filter(|((_, labels), _)| has(labels)).map(|(_, value)| *value).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}");
    found[0]
}

#[test]
fn a_log_is_told_in_metrics() {
    let log = synced(1200);
    run(log.path(), "pins DIR add a 400 --limit 1MiB").done();
    let families = scrape(log.path(), 0);
    for (name, expected) in [
        ("mapwal_damaged", 0.0),
        ("mapwal_writer_alive", 0.0),
        ("mapwal_poisoned", 0.0),
        ("mapwal_first_lsn", 1.0),
        ("mapwal_next_lsn", 1201.0),
        ("mapwal_durable_lsn", 1200.0),
        ("mapwal_pin_lag_records", 801.0),
        ("mapwal_pin_retained_bytes", 3.0 * 65536.0),
        ("mapwal_pin_limit_bytes", 1048576.0),
    ] {
        assert_eq!(value(&families, name, &[]), expected, "{name}");
    }
    assert_eq!(value(&families, "mapwal_disk_bytes", &[("reason", "pin"), ("pin", "a")]), 2.0 * 65536.0);
    assert_eq!(value(&families, "mapwal_disk_files", &[("reason", "untrimmed")]), 1.0);
    assert_eq!(value(&families, "mapwal_pin_state", &[("pin", "a"), ("state", "reserved")]), 1.0);
    assert!(value(&families, "mapwal_syncs", &[]) >= 1200.0);
    assert!(value(&families, "mapwal_sync_seconds", &[("quantile", "0.99")]) > 0.0);
    assert!(value(&families, "mapwal_filesystem_free_bytes", &[]) > 0.0);
    let directories: BTreeSet<&String> =
        families.values().flat_map(|family| family.samples.keys().map(|(_, labels)| &labels["directory"])).collect();
    assert_eq!(directories.into_iter().collect::<Vec<_>>(), [log.path().to_str().unwrap()]);
}

#[test]
fn a_writer_and_damage_can_be_alerted_on() {
    let directory = scratch();
    let _writer = live(directory.path(), 10);
    assert_eq!(value(&scrape(directory.path(), 0), "mapwal_writer_alive", &[]), 1.0);
    let log = closed(900);
    write_at(&segments(log.path())[1], 20, &[1]);
    let families = scrape(log.path(), 2);
    assert_eq!(value(&families, "mapwal_damaged", &[]), 1.0);
    assert!(!families.contains_key("mapwal_next_lsn"), "what is not known is not said");
    assert!(run(log.path(), "stat DIR --format prometheus --watch").code == 64);
}

#[test]
fn of_a_log_without_its_segments_the_page_says_that_it_is_damaged() {
    let log = synced(1200);
    segments(log.path()).into_iter().for_each(|path| fs::remove_file(path).unwrap());
    let families = scrape(log.path(), 2);
    assert_eq!(value(&families, "mapwal_damaged", &[]), 1.0);
    assert_eq!(families.len(), 1, "what is not known is not said");
}

#[test]
fn a_directory_of_any_name_is_a_label() {
    let parent = scratch();
    let log = parent.path().join("a \"b\" \\ c\nd");
    fs::create_dir(&log).unwrap();
    run_with_input(&log, "append DIR --segment-size 64KiB", b"one\n").done();
    let families = scrape(&log, 0);
    assert_eq!(value(&families, "mapwal_next_lsn", &[("directory", log.to_str().unwrap())]), 2.0);
}

#[test]
fn what_is_no_openmetrics_is_noticed() {
    let good = "# TYPE a_bytes gauge\n# UNIT a_bytes bytes\n# HELP a_bytes A.\na_bytes{d=\"x\"} 1\n# EOF\n";
    assert!(parse(good).is_ok());
    for (from, to) in [
        ("# EOF\n", ""),
        ("gauge", "stateset"),
        ("gauge", "counter"),
        ("# UNIT a_bytes bytes", "# UNIT a_bytes seconds"),
        ("# TYPE a_bytes gauge\n", ""),
        ("# HELP a_bytes A.\n", ""),
        ("a_bytes{d=\"x\"} 1\n", ""),
        ("a_bytes{d=\"x\"} 1\n", "a_bytes{d=\"x\"} 1\na_bytes{d=\"x\"} 2\n"),
        ("a_bytes{d=\"x\"} 1\n", "a_bytes{d=\"x\"} 1\n# HELP a_bytes B.\n"),
        ("a_bytes{d=\"x\"}", "b_bytes{d=\"x\"}"),
        ("{d=\"x\"}", "{d=\"x\"y\"}"),
        ("{d=\"x\"}", "{d=\"\\x\"}"),
        ("{d=\"x\"}", "{d=\"x\",d=\"y\"}"),
        ("{d=\"x\"}", "{0=\"x\"}"),
        ("} 1", "} one"),
        ("} 1", "} NaN"),
    ] {
        assert!(parse(&good.replacen(from, to, 1)).is_err(), "{from} -> {to}");
    }
}
