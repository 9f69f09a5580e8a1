//! Both pages of the keyring: which one counts, and the order in which they are overwritten, so that at every moment one of them
//! is whole on the disk. It knows no file: whoever calls says how a page is read and written.

use std::io;

use super::keyring::{Content, DAMAGED, FORMAT, StoreId};
use super::page::{self, Fault};
use crate::store::StoreError;

/// Where the first page lies.
const FIRST: u64 = 0;
/// Where the second page lies.
const SECOND: u64 = page::BYTES as u64;

/// Fills a page with what lies at an offset.
type Read<'a> = dyn Fn(&mut [u8], u64) -> io::Result<()> + 'a;
/// Overwrites the page at an offset. When this returns well, the page is on stable storage.
type Write<'a> = dyn FnMut(&[u8], u64) -> io::Result<()> + 'a;

/// What is known of both pages.
#[derive(Clone)]
pub(super) struct Pages {
    /// The highest number that a page was given.
    sequence: u64,
    /// What the first page has on stable storage and the second one may not have there, whatever the system shows. The second page
    /// gets this before the first one is touched. None: the second page is whole on stable storage.
    owed: Option<Vec<u8>>,
    /// Whether the system shows both alike.
    even: bool,
}

impl Pages {
    /// Of a file that was made whole, with pages of the number 1.
    pub(super) const fn new() -> Self {
        Self {
            sequence: 1,
            owed: None,
            even: true,
        }
    }

    /// Reads both, and gives what the newest whole one says. One is always whole: a page that the disk does not read costs no more
    /// than a torn one.
    pub(super) fn read(read: &Read<'_>) -> Result<(Self, StoreId, Content), StoreError> {
        let (mut newer_format, mut unread) = (None, None);
        let mut whole = |offset| {
            let mut page = vec![0; page::BYTES];
            if let Err(error) = read(&mut page, offset) {
                if error.kind() != io::ErrorKind::UnexpectedEof {
                    unread = Some(StoreError::io("read its keyring", error));
                }
                return None;
            }
            match page::read(&page) {
                Ok(found) => Some((page, found)),
                Err(Fault::Damaged) => None,
                Err(Fault::Format(format)) => {
                    newer_format = Some(format);
                    None
                }
            }
        };
        let (first, second) = (whole(FIRST), whole(SECOND));
        if let Some(found) = newer_format {
            return Err(StoreError::Version { found, known: FORMAT });
        }
        let ((sequence, store, content), owed, even) = match (first, second) {
            // The second page is begun when the first one is on stable storage. Here it was not begun: the older content may be all
            // that the disk has.
            (Some((one, found)), Some((two, other))) if one != two => {
                let newest = if other.0 > found.0 { other } else { found };
                (newest, None, false)
            }
            // Here it was begun.
            (Some((one, found)), second) => (found, Some(one), second.is_some()),
            // The first page was torn while the second one was left alone.
            (None, Some((_, found))) => (found, None, false),
            (None, None) => return Err(unread.unwrap_or(DAMAGED)),
        };
        let pages = Self { sequence, owed, even };
        Ok((pages, store, content))
    }

    /// Replaces what both say. When this returns well, both are on stable storage, and nothing of the content before is left.
    pub(super) fn replace(
        &mut self,
        store: &StoreId,
        content: &Content,
        write: &mut Write<'_>,
    ) -> Result<(), StoreError> {
        // Counted even if it fails: no two contents have one number.
        self.sequence = self.sequence.saturating_add(1);
        let page = page::write(store, self.sequence, content)?;
        self.settle(write)?;
        self.even = false;
        put(write, &page, FIRST)?;
        self.owed = Some(page);
        self.settle(write)
    }

    /// Gives the second page what it may not have on stable storage.
    pub(super) fn settle(&mut self, write: &mut Write<'_>) -> Result<(), StoreError> {
        if let Some(page) = &self.owed {
            put(write, page, SECOND)?;
            self.owed = None;
            self.even = true;
        }
        Ok(())
    }

    /// Ends a replacement that was cut off. `store` and `content` are those of [`Pages::read`].
    pub(super) fn mend(&mut self, store: &StoreId, content: &Content, write: &mut Write<'_>) -> Result<(), StoreError> {
        if self.even {
            Ok(())
        } else if self.owed.is_some() {
            self.settle(write)
        } else {
            self.replace(store, content, write)
        }
    }
}

fn put(write: &mut Write<'_>, page: &[u8], offset: u64) -> Result<(), StoreError> {
    write(page, offset).map_err(|error| StoreError::io("write its keyring", error))
}

#[cfg(test)]
mod tests {
    use super::super::keyring::RootEntry;
    use super::*;

    const STORE: StoreId = [7; 16];

    /// A content that is told by its number.
    fn content(number: u64) -> Content {
        Content {
            roots: vec![RootEntry {
                number: 1,
                first_generation: 1,
                epoch: None,
                seals: Vec::new(),
            }],
            generation: 1,
            seals: number,
            epochs_to_destroy: Vec::new(),
        }
    }

    fn page_of(sequence: u64, number: u64) -> Vec<u8> {
        page::write(&STORE, sequence, &content(number)).unwrap()
    }

    fn torn(new: &[u8], old: &[u8]) -> Vec<u8> {
        let half = page::BYTES / 2;
        [&new[..half], &old[half..]].concat()
    }

    fn read_both(both: &[Vec<u8>; 2]) -> Result<(Pages, StoreId, Content), StoreError> {
        Pages::read(&|page, offset| {
            page.copy_from_slice(&both[usize::from(offset == SECOND)]);
            Ok(())
        })
    }

    /// Where pages are written, in which order.
    fn written(act: impl FnOnce(&mut super::Write<'_>) -> Result<(), StoreError>) -> Vec<u64> {
        let mut offsets = Vec::new();
        let write: &mut super::Write<'_> = &mut |_, offset| {
            offsets.push(offset);
            Ok(())
        };
        act(write).unwrap();
        offsets
    }

    #[test]
    fn a_page_that_the_disk_does_not_read_costs_nothing_where_the_other_one_is_whole() {
        let page = page_of(3, 0);
        for bad in [&[FIRST][..], &[SECOND], &[FIRST, SECOND], &[]] {
            let read = |to: &mut [u8], offset: u64| {
                if bad.contains(&offset) {
                    return Err(io::Error::other("the disk does not read"));
                }
                to.copy_from_slice(&page);
                Ok(())
            };
            match Pages::read(&read) {
                Ok((pages, _, found)) => {
                    assert!(bad.len() < 2);
                    assert_eq!((pages.sequence, found), (3, content(0)));
                    assert_eq!(pages.even, bad.is_empty(), "it is written once more");
                }
                Err(error) => assert!(bad.len() == 2 && matches!(error, StoreError::Io { .. }), "{error}"),
            }
        }
    }

    #[test]
    fn the_page_that_may_not_be_on_the_disk_is_written_first() {
        let (old, new) = (page_of(1, 1), page_of(2, 2));
        let half = torn(&new, &old);
        let cases = [
            ("the second is torn", [&new, &half], 2, vec![SECOND]),
            ("the first is torn", [&half, &old], 1, vec![FIRST, SECOND]),
            ("the second is older", [&new, &old], 2, vec![FIRST, SECOND]),
            ("both are alike", [&new, &new], 2, vec![]),
        ];
        for (case, both, number, mended) in cases {
            let (mut pages, _, found) = read_both(&both.map(Clone::clone)).unwrap();
            assert_eq!(found, content(number), "{case}");
            let written = written(|write| pages.mend(&STORE, &found, write));
            assert_eq!(written, mended, "{case}");
        }
        // Nobody knows whether the disk has the second one, too.
        let (mut pages, ..) = read_both(&[new.clone(), new]).unwrap();
        let written = written(|write| pages.replace(&STORE, &content(3), write));
        assert_eq!(written, [SECOND, FIRST, SECOND]);
    }

    #[test]
    fn after_a_write_that_failed_the_next_one_begins_where_it_failed() {
        for (failing, then) in [
            (FIRST, [FIRST, SECOND].as_slice()),
            (SECOND, [SECOND, FIRST, SECOND].as_slice()),
        ] {
            let mut pages = Pages::new();
            let failed = pages.replace(&STORE, &content(2), &mut |_, offset| {
                if offset == failing {
                    Err(io::Error::other("the disk does not write"))
                } else {
                    Ok(())
                }
            });
            assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
            let written = written(|write| pages.replace(&STORE, &content(3), write));
            assert_eq!(written, then);
        }
    }

    /// What a page is after a write that did not succeed.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Left {
        Old,
        Torn,
        New,
    }

    /// How a write ends that does not succeed: what the system shows of its page, and what the disk has.
    #[derive(Debug, Clone, Copy)]
    enum Mishap {
        /// The power goes: the system shows what the disk has from then on.
        Cut(Left),
        /// The process is killed.
        Killed(Left, Left),
        /// The process is told of an error, and goes on.
        Failed(Left, Left),
    }

    const MISHAPS: [Mishap; 13] = {
        use Left::{New, Old, Torn};
        [
            Mishap::Cut(Old),
            Mishap::Cut(Torn),
            Mishap::Cut(New),
            Mishap::Killed(Torn, Old),
            Mishap::Killed(Torn, Torn),
            Mishap::Killed(New, Old),
            Mishap::Killed(New, Torn),
            Mishap::Killed(New, New),
            Mishap::Failed(Torn, Old),
            Mishap::Failed(Torn, Torn),
            Mishap::Failed(New, Old),
            Mishap::Failed(New, Torn),
            Mishap::Failed(New, New),
        ]
    };

    /// A file with both pages, and whoever has it open.
    #[derive(Clone)]
    struct World {
        shown: [Vec<u8>; 2],
        disk: [Vec<u8>; 2],
        /// None: no process runs.
        process: Option<Pages>,
        /// The numbers of the contents that the disk may have: the last one that was certain, and those that were tried since.
        possible: Vec<u64>,
        /// The number of the last content that was tried.
        last: u64,
    }

    /// Writes a page at an offset, or fails at it.
    type Write<'a> = dyn FnMut(&mut World, &[u8], u64) -> io::Result<()> + 'a;

    impl World {
        /// Writes a page, and lets the write end as `mishap` says.
        fn write(&mut self, page: &[u8], offset: u64, mishap: Option<Mishap>) -> io::Result<()> {
            let at = usize::from(offset == SECOND);
            let left = |left: Left, old: &[u8]| match left {
                Left::Old => old.to_vec(),
                Left::Torn => torn(page, old),
                Left::New => page.to_vec(),
            };
            let (shown, disk) = match mishap {
                None => (Left::New, Left::New),
                Some(Mishap::Cut(disk)) => (disk, disk),
                Some(Mishap::Killed(shown, disk) | Mishap::Failed(shown, disk)) => (shown, disk),
            };
            self.disk[at] = left(disk, &self.disk[at]);
            self.shown[at] = left(shown, &self.shown[at]);
            if let Some(Mishap::Cut(_)) = mishap {
                self.shown = self.disk.clone();
            }
            self.assert_opens();
            mishap.map_or(Ok(()), |_| Err(io::Error::other("the write did not succeed")))
        }

        /// If the power went now, the store would open.
        fn assert_opens(&self) {
            let (.., found) = read_both(&self.disk).expect("a page that is whole");
            assert!(
                self.possible.contains(&found.seals),
                "{} of {:?}",
                found.seals,
                self.possible
            );
        }

        /// Opens the file, or goes on, and replaces what it holds. The write with this number ends as `mishap` says; false: there was
        /// none with this number.
        fn go_on(&mut self, nth: usize, mishap: Mishap) -> bool {
            let mut writes = 0;
            let process = self.process.take();
            let mut pages = process.clone();
            let done = self.open_and_replace(&mut pages, &mut |world, page, offset| {
                let is_hit = writes == nth;
                writes += 1;
                world.write(page, offset, is_hit.then_some(mishap))
            });
            let is_hit = done.is_err();
            // Whoever fails while the file is opened gives up.
            let goes_on = !is_hit || (matches!(mishap, Mishap::Failed(..)) && process.is_some());
            self.process = pages.filter(|_| goes_on);
            is_hit
        }

        fn open_and_replace(&mut self, pages: &mut Option<Pages>, write: &mut Write<'_>) -> Result<(), StoreError> {
            if pages.is_none() {
                let (mut opened, _, found) = read_both(&self.shown).expect("a page that is shown whole");
                opened.mend(&STORE, &found, &mut |page, offset| write(self, page, offset))?;
                self.possible = vec![found.seals];
                self.assert_opens();
                *pages = Some(opened);
            }
            self.last += 1;
            let next = content(self.last);
            self.possible.push(self.last);
            if let Some(pages) = pages {
                pages.replace(&STORE, &next, &mut |page, offset| write(self, page, offset))?;
            }
            self.possible = vec![self.last];
            self.assert_opens();
            Ok(())
        }
    }

    /// Every mishap at every write, and so many mishaps one after the other.
    fn try_all(world: &World, mishaps: usize) -> usize {
        let mut tried = 0;
        for mishap in MISHAPS {
            for nth in 0.. {
                let mut next = world.clone();
                if !next.go_on(nth, mishap) {
                    break;
                }
                tried += 1;
                if mishaps > 1 {
                    tried += try_all(&next, mishaps - 1);
                }
            }
        }
        tried
    }

    #[test]
    fn whatever_two_writes_meet_one_page_is_whole_on_the_disk() {
        let page = page_of(1, 0);
        let both = [page.clone(), page];
        for process in [None, Some(Pages::new())] {
            let world = World {
                shown: both.clone(),
                disk: both.clone(),
                process,
                possible: vec![0],
                last: 0,
            };
            assert!(try_all(&world, 2) > 500);
        }
    }
}
