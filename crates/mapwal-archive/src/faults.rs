//! What is wrong with an archive as far as its list shows.

use std::ops::Range;

use mapwal::Lsn;

use crate::chain::Chain;
use crate::gaps::MissingRecords;
use crate::history::History;
use crate::verify::EpochFault;

/// What keeps epochs from being restored to their ends; each thing once, though several epochs may need it.
pub(crate) fn faults(history: &History) -> Vec<EpochFault> {
    let mut faults = Vec::new();
    for &epoch in history.epochs.keys() {
        let found = match history.chain(epoch) {
            Ok(chain) => gaps_of(history, epoch, chain),
            Err(error) => {
                let mut found = vec![EpochFault::of(epoch, error)];
                // Those before its beginning hide what else is wrong.
                let strays = history.lone_strays(epoch).map(|(object, damage)| EpochFault::Damaged {
                    epoch,
                    key: object.key.to_string(),
                    damage,
                });
                found.extend(strays);
                let is_hidden = history.check_strays(epoch).is_err();
                let missing = history.missing(epoch, Lsn(0)).ok().filter(|_| is_hidden).unwrap_or_default();
                found.extend(missing.iter().map(gap_of));
                found
            }
        };
        for fault in found {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        let strays = history.epochs.get(&epoch).into_iter().flat_map(|own| &own.strays);
        faults.extend(strays.filter_map(|stray| {
            let (key, original) = (stray.object.key.to_string(), stray.original.as_ref()?.to_string());
            Some(EpochFault::Copy { epoch, key, original })
        }));
        let lost = history.lost_before(epoch);
        faults.extend(lost.map(|lsns| EpochFault::Lost { epoch, missing: (lsns.start.0, lsns.end.0) }));
    }
    faults
}

/// What is wrong with an archive as far as its list shows: [`faults`], and objects that do not have their lengths.
pub(crate) fn listed_faults(history: &History) -> Vec<EpochFault> {
    let needed = history.epochs.iter().flat_map(|(&epoch, own)| own.needed().map(move |object| (epoch, object)));
    let damaged = needed.filter_map(|(epoch, object)| {
        Some(EpochFault::Damaged { epoch, key: object.key.to_string(), damage: object.damage()? })
    });
    let mut found: Vec<_> = damaged.collect();
    found.extend(faults(history));
    found
}

/// Of [`listed_faults`] those that are not of what leads to the end of `epoch`: of epochs that it does not continue, or of what comes after the place
/// where it leaves one. A copy is needed by nothing.
pub(crate) fn faults_beside(history: &History, epoch: u64) -> Vec<EpochFault> {
    let line = history.line(epoch);
    let (missing, damaged) = (history.missing(epoch, Lsn(0)).unwrap_or_default(), history.damaged(epoch));
    let mut faults = listed_faults(history);
    faults.retain(|fault| match fault {
        EpochFault::Gap { epoch: of, .. } => *of != epoch && missing.iter().all(|missing| gap_of(missing) != *fault),
        EpochFault::Damaged { key, .. } | EpochFault::Note { key, .. } => damaged.iter().all(|(told, _)| told != key),
        EpochFault::Lost { epoch: of, .. } => !line.contains_key(of),
        EpochFault::Copy { .. } => false,
        _ => true,
    });
    faults
}

fn gaps_of(history: &History, epoch: u64, chain: Chain) -> Vec<EpochFault> {
    let missing = history.missing(epoch, Lsn(0)).unwrap_or_default();
    // Of parts bytes may be missing that have no record.
    let first = chain.gap.filter(|_| missing.is_empty()).map(|lsns| gap(chain.epoch, &lsns));
    missing.iter().map(gap_of).chain(first).collect()
}

fn gap_of(missing: &MissingRecords) -> EpochFault {
    gap(missing.epoch, &missing.lsns)
}

fn gap(epoch: u64, lsns: &Range<Lsn>) -> EpochFault {
    EpochFault::Gap { epoch, missing: (lsns.start.0, lsns.end.0) }
}
