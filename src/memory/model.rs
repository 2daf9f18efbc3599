//! Models of what threads do to a region at the same time, run by loom in every order that the memory model allows.
//!
//! The code is the real one, on memory of the heap; loom sees each atomic, each access to eight bytes of a region, and each
//! access to a slot of the cursor. It fails a model when two accesses are not ordered, or an assertion does not hold.
//!
//! That they notice was seen by planting bugs, one at a time. Each of these orderings, made relaxed, fails at least one: the
//! store and the load of a commit word (four of the five, all but that of a failed sync), the move of the published end, the
//! swap that reserves, the stores that open a region and give it more room, and that of a generation's end. A payload written
//! after its commit word, and a published end that moves before the commit word is looked at, fail as well.

use std::sync::Arc;

use loom::model::Builder;
use loom::thread;

use super::append_cursor::{AppendCursor, CursorControl};
use super::mapping::{HeapMemory, Mapping};
use super::region::Region;
use super::words::SharedWords;

/// Enough for all that two or three threads can do to each other here; without a bound the models take hours.
const PREEMPTIONS_MAX: usize = 3;
const FRAME_LEN: usize = 24;
const DURABLE: usize = 0;
const POISONED: usize = 1;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(model);
}

fn region(frames: usize) -> Arc<Region> {
    Arc::new(Region::live(Mapping::from_heap(Arc::new(HeapMemory::zeroed(frames * FRAME_LEN))), 0))
}

fn words() -> Arc<SharedWords> {
    Arc::new(SharedWords::new(Mapping::from_heap(Arc::new(HeapMemory::zeroed(16)))))
}

/// A cursor that appends to `region`.
fn open(region: &Arc<Region>) -> (Arc<AppendCursor<()>>, CursorControl<()>) {
    let (cursor, mut cursor_control) = AppendCursor::new();
    cursor_control.install(Arc::clone(region), 0, region.len(), 0, ());
    (cursor, cursor_control)
}

/// Appends a frame that is filled with `fill`; its ordinal, unless there is no room.
fn append(cursor: &AppendCursor<()>, fill: u8) -> Option<u32> {
    let mut place = cursor.reserve(FRAME_LEN, 1)?;
    let ordinal = place.ordinal();
    place.write(8, &[fill; FRAME_LEN - 8]);
    place.complete(FRAME_LEN as u32, u32::from(fill));
    Some(ordinal)
}

/// How many frames there are by now, each of which is whole.
fn count(region: &Region) -> usize {
    region.extend(region.published(), |_| true);
    let end = region.published();
    let bytes = region.bytes(0..end).expect("published");
    for frame in bytes.chunks(FRAME_LEN) {
        assert!(frame[8] != 0 && frame[8..].iter().all(|&byte| byte == frame[8]), "a frame in part");
    }
    end / FRAME_LEN
}

#[test]
fn readers_see_whole_frames_while_two_append() {
    check(|| {
        let region = region(2);
        let (cursor, _rotor) = open(&region);
        let other = {
            let cursor = Arc::clone(&cursor);
            thread::spawn(move || append(&cursor, 1))
        };
        let reader = {
            let region = Arc::clone(&region);
            thread::spawn(move || count(&region))
        };
        let mine = append(&cursor, 2);
        let theirs = other.join().expect("appends");
        assert!(mine.is_some() && theirs.is_some() && mine != theirs, "each has a place of its own");
        assert!(reader.join().expect("reads") <= 2);
        assert_eq!(count(&region), 2);
    });
}

#[test]
fn a_place_taken_before_a_rotation_is_good_after_it() {
    check(|| {
        let (first, second) = (region(2), region(2));
        let (cursor, mut cursor_control) = open(&first);
        let appender = {
            let cursor = Arc::clone(&cursor);
            thread::spawn(move || append(&cursor, 1).is_some())
        };
        let taken = cursor_control.close(0).expect("open");
        let (end, records) = (taken.offset, taken.ordinal);
        cursor_control.install(Arc::clone(&second), 0, second.len(), 0, ());
        // Empties the slot, unless the appender still holds a place in it.
        cursor_control.retire();
        let appended = appender.join().expect("appends");
        assert_eq!(end, records as usize * FRAME_LEN);
        assert_eq!(count(&first), records as usize, "nothing comes after the end");
        assert_eq!(count(&first) + count(&second), usize::from(appended));
        cursor_control.retire();
    });
}

#[test]
fn room_is_added_while_two_append() {
    check(|| {
        let region = region(3);
        let (cursor, mut cursor_control) = AppendCursor::new();
        cursor_control.install(Arc::clone(&region), 0, FRAME_LEN, 0, ());
        let other = {
            let cursor = Arc::clone(&cursor);
            thread::spawn(move || append(&cursor, 1))
        };
        let looker = {
            let cursor = Arc::clone(&cursor);
            thread::spawn(move || {
                let reserved = cursor.reserved();
                assert_eq!(reserved.position, u64::from(reserved.ordinal()) * FRAME_LEN as u64, "of two generations");
            })
        };
        // Round the slots, which are reused once they are empty.
        for frames in [2, 3, 3] {
            cursor_control.extend(frames * FRAME_LEN, ());
            cursor_control.retire();
        }
        let mine = append(&cursor, 2).expect("there is room");
        let theirs = other.join().expect("appends");
        looker.join().expect("looks");
        assert_ne!(theirs, Some(mine), "each has a place of its own");
        assert_eq!(count(&region), 1 + usize::from(theirs.is_some()));
    });
}

#[test]
fn what_is_called_durable_can_be_read() {
    check(|| {
        let (region, words) = (region(1), words());
        let (cursor, _rotor) = open(&region);
        let appender = thread::spawn(move || append(&cursor, 1).is_some());
        let leader = {
            let (region, words) = (Arc::clone(&region), Arc::clone(&words));
            // The walk of a sync, and its acknowledgement.
            thread::spawn(move || words.store(DURABLE, count(&region) as u64))
        };
        let durable = words.load(DURABLE) as usize;
        assert!(region.published() >= durable * FRAME_LEN, "the watermark is ahead of what can be read");
        assert!(count(&region) >= durable);
        assert!(appender.join().expect("appends"));
        leader.join().expect("syncs");
    });
}

#[test]
fn an_appender_that_finds_the_region_closed_by_a_failed_sync_sees_the_failure() {
    check(|| {
        let (region, words) = (region(1), words());
        let (cursor, mut cursor_control) = open(&region);
        let appender = {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                let appended = append(&cursor, 1).is_some();
                // Looks why.
                let failed = cursor.reserved().is_closed() && words.load(POISONED) == 1;
                assert!(appended || failed, "refused, and does not know why");
                appended
            })
        };
        words.store(POISONED, 1);
        let end = cursor_control.close(0).expect("open").offset;
        let appended = appender.join().expect("appends");
        assert_eq!(end, usize::from(appended) * FRAME_LEN);
        assert_eq!(count(&region), usize::from(appended));
    });
}
