//! Somebody who has every file of a store and every master key that it ever had, and tries everything: each slot at each
//! alignment, each key against each ciphertext, at each byte of each file. It reads what
//! is there and not what the store would read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aes_gcm::aead::Aead as _;
use aes_gcm::{Aes256Gcm, Nonce};
use memchr::memmem;

use crate::format::{
    CHUNK_BYTES, HEADER_BYTES, Key, PLACE_BYTES, SLOT_BYTES, SLOTS_FROM, TAG_BYTES, chunk_nonce, cipher, derive, open,
    record_associated, root_associated, slot_associated, slot_key, u32_at, unhex,
};
use crate::support::files_below;

/// What every value of the trials begins with, so that an attacker knows some plaintext.
pub(crate) const MARK: &[u8] = b"the-value-of-";
/// More roots, generations and chunks than any store of the trials has.
const ROOTS: u32 = 8;
const GENERATIONS: u32 = 12;
const CHUNKS: u32 = 16;

/// What an attacker starts with.
pub(crate) struct Attacker {
    masters: Vec<Key>,
    /// More than an attacker has: these could be read from the sealed names of namespaces alone.
    namespaces: Vec<String>,
    files: Vec<(PathBuf, Vec<u8>)>,
}

/// What came out.
#[derive(Debug, Default)]
pub(crate) struct Loot {
    /// Root keys.
    pub(crate) roots: BTreeSet<Key>,
    /// Keys of records.
    pub(crate) keys: BTreeSet<Key>,
    /// Namespace, name and value of records that were opened as the format says, chunk by chunk.
    pub(crate) records: BTreeSet<(String, String, Vec<u8>)>,
    /// Beginnings of values that were found by their ciphertext alone, whatever lies around it.
    pub(crate) beginnings: BTreeSet<String>,
}

impl Attacker {
    /// Copies nothing: whoever attacks has read the files already. `masters` are texts of master keys.
    pub(crate) fn new(folder: &Path, masters: &[&str], namespaces: &[&str]) -> Self {
        Self {
            masters: masters.iter().map(|text| key_of(text).expect("a master key")).collect(),
            namespaces: namespaces.iter().map(|one| (*one).to_owned()).collect(),
            files: files_below(folder),
        }
    }

    fn file(&self, name: &str) -> &[u8] {
        let found = self.files.iter().find(|(path, _)| path == Path::new(name));
        &found.expect("a file of the store").1
    }

    fn store(&self) -> &[u8] {
        &self.file("slots")[12..28]
    }

    pub(crate) fn attack(&self) -> Loot {
        let mut loot = Loot {
            roots: self.roots(),
            ..Loot::default()
        };
        for root in &loot.roots {
            loot.keys.extend(self.record_keys(root));
        }
        let entries = self.entries();
        for key in &loot.keys {
            self.open_records(key, &entries, &mut loot.records);
            self.look_for_beginnings(key, &mut loot.beginnings);
        }
        loot
    }

    /// Tries what is written as the seal of a root, wherever it is, under every master key.
    fn roots(&self) -> BTreeSet<Key> {
        let mut found = BTreeSet::new();
        let sealing = self
            .masters
            .iter()
            .map(|key| derive(b"", key, b"aral.memory/v1/master-seal"));
        let ciphers: Vec<Aes256Gcm> = sealing.map(|key| cipher(&key)).collect();
        for (_, bytes) in &self.files {
            for at in memmem::find_iter(bytes, b"\"sealed\":\"") {
                let digits = &bytes[at + 10..bytes.len().min(at + 10 + 120)];
                let Some(sealed) = std::str::from_utf8(digits).ok().and_then(unhex) else {
                    continue;
                };
                let Some((nonce, sealed)) = sealed.split_at_checked(12) else {
                    continue;
                };
                for number in 0..ROOTS {
                    let aad = root_associated(self.store(), number);
                    let opened = ciphers.iter().filter_map(|one| open(one, nonce, &aad, sealed));
                    found.extend(opened.filter_map(|root| Key::try_from(root).ok()));
                }
            }
        }
        found
    }

    /// Tries to unwrap the key of a record at every byte of every file.
    fn record_keys(&self, root: &Key) -> BTreeSet<Key> {
        let ciphers: Vec<(u32, Aes256Gcm)> = (1..GENERATIONS)
            .map(|generation| (generation, cipher(&slot_key(self.store(), root, generation))))
            .collect();
        let mut found = BTreeSet::new();
        let numbers = self.numbers_of_slots();
        for (path, bytes) in &self.files {
            let is_slots = path == Path::new("slots");
            for at in 0..bytes.len() {
                let Some(window) = bytes.get(at..at + 4 + 12 + 48 + PLACE_BYTES) else {
                    break;
                };
                if window[16..32].iter().all(|byte| *byte == 0) {
                    continue;
                }
                let named = u32_at(window, 0).unwrap_or(0);
                for (generation, cipher) in &ciphers {
                    // Where it says what it is, it may have been any slot. In the slot file it need not say so.
                    let numbers: Vec<u32> = if named == *generation {
                        numbers.clone()
                    } else if is_slots {
                        let nearest = u32::try_from(at.saturating_sub(SLOTS_FROM) / SLOT_BYTES).expect("few slots");
                        vec![nearest, nearest + 1]
                    } else {
                        continue;
                    };
                    for number in numbers {
                        let aad = slot_associated(self.store(), number, *generation, &window[64..]);
                        let key = open(cipher, &window[4..16], &aad, &window[16..64]);
                        found.extend(key.and_then(|key| Key::try_from(key).ok()));
                    }
                }
            }
        }
        found
    }

    /// The slots that were ever in use, and some more.
    fn numbers_of_slots(&self) -> Vec<u32> {
        let slots = &self.file("slots")[SLOTS_FROM..];
        let used = slots
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last / SLOT_BYTES);
        (0..u32::try_from(used).expect("few slots") + 32).collect()
    }

    /// Where a record may begin, as the format says: every byte of every file is looked at.
    fn entries(&self) -> Vec<&[u8]> {
        let mut entries = Vec::new();
        for (_, bytes) in &self.files {
            for at in memchr::memchr_iter(1, bytes) {
                let header = bytes.get(at..at + HEADER_BYTES);
                if header.is_some_and(|header| header[1] <= 3 && (1..=128).contains(&name_bytes(header))) {
                    entries.push(&bytes[at..]);
                }
            }
        }
        entries
    }

    /// Takes what this key opens.
    fn open_records(&self, key: &Key, entries: &[&[u8]], records: &mut BTreeSet<(String, String, Vec<u8>)>) {
        let cipher = cipher(key);
        for entry in entries {
            for namespace in &self.namespaces {
                for space in [b'm', b's'] {
                    records.extend(self.open_record(&cipher, entry, namespace, space));
                }
            }
        }
    }

    fn open_record(
        &self,
        cipher: &Aes256Gcm,
        entry: &[u8],
        namespace: &str,
        space: u8,
    ) -> Option<(String, String, Vec<u8>)> {
        let header = entry.get(..HEADER_BYTES)?;
        let name_bytes = name_bytes(header);
        let value_bytes = usize::try_from(u32_at(header, 28)?).ok()?;
        let mut aad = record_associated(self.store(), header, space, namespace);
        let name_ends = HEADER_BYTES + name_bytes + TAG_BYTES;
        let name = open(cipher, &[0; 12], &aad, entry.get(HEADER_BYTES..name_ends)?)?;
        aad.extend_from_slice(&name);
        let value = if value_bytes <= CHUNK_BYTES {
            open(
                cipher,
                &chunk_nonce(0),
                &aad,
                entry.get(name_ends..name_ends + value_bytes + TAG_BYTES)?,
            )?
        } else {
            self.join_chunks(cipher, &aad, value_bytes)?
        };
        Some((namespace.to_owned(), String::from_utf8(name).ok()?, value))
    }

    /// Looks for each chunk by the ciphertext that its beginning must have: values repeat their text, so that who has the
    /// first knows how the next begins.
    fn join_chunks(&self, cipher: &Aes256Gcm, aad: &[u8], value_bytes: usize) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        let mut index = 0;
        while value.len() < value_bytes {
            let bytes = (value_bytes - value.len()).min(CHUNK_BYTES) + TAG_BYTES;
            let text = value
                .iter()
                .position(|byte| *byte == b'.')
                .map_or(MARK, |end| &value[..=end]);
            let begins = text.iter().cycle().skip(value.len() % text.len()).take(MARK.len());
            let nonce = chunk_nonce(index);
            let stream = key_stream(cipher, &nonce, MARK.len());
            let wanted: Vec<u8> = begins.zip(&stream).map(|(plain, key)| plain ^ key).collect();
            let chunk = self.files.iter().find_map(|(_, file)| {
                memmem::find_iter(file, &wanted).find_map(|at| open(cipher, &nonce, aad, file.get(at..at + bytes)?))
            });
            value.extend(chunk?);
            index += 1;
        }
        Some(value)
    }

    /// With the key of a record and the beginning of its value, the ciphertext is known: looks for it in every file. No header,
    /// no name and no tag is needed.
    fn look_for_beginnings(&self, key: &Key, beginnings: &mut BTreeSet<String>) {
        let cipher = cipher(key);
        for index in 0..CHUNKS {
            let stream = key_stream(&cipher, &chunk_nonce(index), 64);
            let wanted: Vec<u8> = MARK.iter().zip(&stream).map(|(plain, key)| plain ^ key).collect();
            for (_, bytes) in &self.files {
                for at in memmem::find_iter(bytes, &wanted) {
                    let found: Vec<u8> = bytes[at..]
                        .iter()
                        .zip(&stream)
                        .map(|(sealed, key)| sealed ^ key)
                        .collect();
                    let end = found
                        .iter()
                        .position(|byte| *byte == b'.')
                        .map_or(found.len(), |at| at + 1);
                    beginnings.insert(String::from_utf8_lossy(&found[..end]).into_owned());
                }
            }
        }
    }

    /// Whether the bytes are in any file.
    pub(crate) fn finds(&self, bytes: &[u8]) -> Option<&Path> {
        let holds = |(_, file): &&(PathBuf, Vec<u8>)| memmem::find(file, bytes).is_some();
        self.files.iter().find(holds).map(|(path, _)| path.as_path())
    }
}

/// The length of its name, as a header has it.
fn name_bytes(header: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([header[2], header[3]]))
}

/// What the cipher adds to a plaintext: what it makes of zeros.
fn key_stream(cipher: &Aes256Gcm, nonce: &[u8; 12], bytes: usize) -> Vec<u8> {
    let zeros = vec![0; bytes];
    let mut stream = cipher
        .encrypt(&Nonce::from(*nonce), zeros.as_slice())
        .expect("a stream");
    stream.truncate(bytes);
    stream
}

fn key_of(text: &str) -> Option<Key> {
    unhex(text)?.try_into().ok()
}
