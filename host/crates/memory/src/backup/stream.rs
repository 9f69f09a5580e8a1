//! The file of a backup: a header, then messages, each with its length before it.

use std::convert::Infallible;
use std::io::{Read, Write};

use aral_runtime::{LockedKey, locked::LockedKeyError};
use hpke::aead::{AeadCtxR, AeadCtxS, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _, setup_receiver, setup_sender_with_rng};
use zeroize::Zeroizing;

use super::keys::KEY_ID_BYTES;
use super::{BackupError, BackupPrivateKey, BackupPublicKey, Head};
use crate::crypto::expand;
use crate::key::hex;
use crate::record::VALUE_BYTES_MAX;
use crate::sealed::{Space, WholeRecord};
use crate::store::StoreError;

const MAGIC: &[u8; 8] = b"ARALBKUP";
const FORMAT: u32 = 1;
const INFO: &[u8] = b"aral.memory/v1/backup";
const ENCAPSULATED_BYTES: usize = 32;
/// Magic, format, id of the key.
const HEADER_BYTES: usize = 8 + 4 + KEY_ID_BYTES;
/// Longest message: a value, and what stands before it. Stops a length that somebody made up from filling memory.
const MESSAGE_BYTES_MAX: usize = VALUE_BYTES_MAX + 4096;

type Sender = AeadCtxS<AesGcm256, HkdfSha256, X25519HkdfSha256>;
type Receiver = AeadCtxR<AesGcm256, HkdfSha256, X25519HkdfSha256>;

fn writing(source: std::io::Error) -> BackupError {
    BackupError::Io {
        action: "written",
        source,
    }
}

/// Randomness for one encapsulation, from one seed that was drawn where a failure can be told.
struct Drawn {
    seed: LockedKey,
    block: u32,
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for piece in bytes.chunks_mut(32) {
            // At most 32 bytes: HKDF always gives them.
            let _always = expand(&self.block.to_le_bytes(), self.seed.expose(), INFO, piece);
            self.block = self.block.wrapping_add(1);
        }
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

/// Writes a backup.
pub(crate) struct Writer<'a> {
    out: &'a mut dyn Write,
    sender: Sender,
    records: u64,
}

fn info(header: &[u8]) -> Vec<u8> {
    [INFO, header].concat()
}

impl<'a> Writer<'a> {
    pub(crate) fn begin(to: &BackupPublicKey, out: &'a mut dyn Write) -> Result<Self, BackupError> {
        let mut header = Vec::with_capacity(HEADER_BYTES + ENCAPSULATED_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&to.id_bytes());
        let drawn = |error: LockedKeyError| BackupError::Store(StoreError::Key(error));
        let mut random = Drawn {
            seed: LockedKey::random().map_err(drawn)?,
            block: 0,
        };
        let set_up = setup_sender_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &to.0,
            &info(&header),
            &mut random,
        );
        let (encapsulated, sender) = set_up.map_err(|_| BackupError::Damaged { message: 0 })?;
        header.extend_from_slice(&encapsulated.to_bytes());
        out.write_all(&header).map_err(writing)?;
        Ok(Self {
            out,
            sender,
            records: 0,
        })
    }

    pub(crate) fn record(&mut self, record: &WholeRecord) -> Result<(), BackupError> {
        let head = Head::Record {
            space: record.space.as_str().to_owned(),
            namespace: record.namespace.clone(),
            name: record.name.as_str().to_owned(),
            version: record.version,
            expires: record.expires,
            classification: record.classification,
        };
        self.records = self.records.saturating_add(1);
        self.message(&head, &record.value)
    }

    /// Without this the backup is cut off.
    pub(crate) fn end(mut self) -> Result<(), BackupError> {
        let records = self.records;
        self.message(&Head::End { records }, &[])?;
        self.out.flush().map_err(writing)
    }

    fn message(&mut self, head: &Head, value: &[u8]) -> Result<(), BackupError> {
        let head = Zeroizing::new(serde_json::to_vec(head).map_err(|error| writing(error.into()))?);
        let mut plain = Zeroizing::new(Vec::with_capacity(
            head.len().saturating_add(value.len()).saturating_add(4),
        ));
        plain.extend_from_slice(&length(head.len()));
        plain.extend_from_slice(&head);
        plain.extend_from_slice(value);
        let sealed = self.sender.seal(&plain, &[]);
        let message = self.records;
        let sealed = sealed.map_err(|_| BackupError::Damaged { message })?;
        self.out.write_all(&length(sealed.len())).map_err(writing)?;
        self.out.write_all(&sealed).map_err(writing)
    }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// Reads a backup.
pub(crate) struct Reader<'a> {
    from: &'a mut dyn Read,
    receiver: Receiver,
    messages: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn begin(key: &BackupPrivateKey, from: &'a mut dyn Read) -> Result<Self, BackupError> {
        let mut header = [0; HEADER_BYTES];
        let mut encapsulated = [0; ENCAPSULATED_BYTES];
        from.read_exact(&mut header)
            .map_err(|error| not_whole(error, BackupError::NotABackup))?;
        let (magic, rest) = header.split_first_chunk::<8>().ok_or(BackupError::NotABackup)?;
        let (format, wanted) = rest.split_first_chunk::<4>().ok_or(BackupError::NotABackup)?;
        if magic != MAGIC {
            return Err(BackupError::NotABackup);
        }
        match u32::from_le_bytes(*format) {
            FORMAT => {}
            // No version ever wrote it.
            0 => return Err(BackupError::Damaged { message: 0 }),
            found => return Err(BackupError::Version { found, known: FORMAT }),
        }
        let own = key.public_key();
        if wanted != own.id_bytes() {
            return Err(BackupError::WrongKey {
                wanted: hex(wanted),
                given: own.id(),
            });
        }
        let cut = |error| not_whole(error, BackupError::CutOff { message: 0 });
        from.read_exact(&mut encapsulated).map_err(cut)?;
        let damaged = || BackupError::Damaged { message: 0 };
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&encapsulated).map_err(|_| damaged())?;
        let receiver = setup_receiver(&OpModeR::Base, &key.0, &encapsulated, &info(&header)).map_err(|_| damaged())?;
        Ok(Self {
            from,
            receiver,
            messages: 0,
        })
    }

    /// The next record; none: that was the last, and the backup is whole.
    pub(crate) fn next(&mut self) -> Result<Option<WholeRecord>, BackupError> {
        let cut = BackupError::CutOff { message: self.messages };
        let mut length = [0; 4];
        self.from
            .read_exact(&mut length)
            .map_err(|error| not_whole(error, cut))?;
        self.messages = self.messages.saturating_add(1);
        let damaged = || BackupError::Damaged { message: self.messages };
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX {
            return Err(damaged());
        }
        let mut sealed = vec![0; length];
        let cut = BackupError::CutOff {
            message: self.messages.saturating_sub(1),
        };
        self.from
            .read_exact(&mut sealed)
            .map_err(|error| not_whole(error, cut))?;
        let plain = self
            .receiver
            .open(&sealed, &[])
            .map(Zeroizing::new)
            .map_err(|_| damaged())?;
        let (head, value) = split(&plain)
            .filter(|(_, value)| value.len() <= VALUE_BYTES_MAX)
            .ok_or_else(damaged)?;
        match serde_json::from_slice(head).map_err(|_| damaged())? {
            Head::End { records } => self.end(records),
            Head::Record {
                space,
                namespace,
                name,
                version,
                expires,
                classification,
            } => Ok(Some(WholeRecord {
                space: Space::parse(&space).ok_or_else(damaged)?,
                namespace,
                name: name.try_into().map_err(|_| damaged())?,
                value: Zeroizing::new(value.to_vec()),
                version,
                expires,
                classification,
            })),
        }
    }

    fn end(&mut self, records: u64) -> Result<Option<WholeRecord>, BackupError> {
        let after = self.from.read(&mut [0]).map_err(reading)?;
        if after == 0 && records.checked_add(1) == Some(self.messages) {
            Ok(None)
        } else {
            Err(BackupError::Damaged { message: self.messages })
        }
    }
}

fn split(plain: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = plain.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

fn reading(source: std::io::Error) -> BackupError {
    BackupError::Io { action: "read", source }
}

fn not_whole(error: std::io::Error, cut: BackupError) -> BackupError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => cut,
        _ => reading(error),
    }
}
