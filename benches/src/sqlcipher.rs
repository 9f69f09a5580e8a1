//! SQLCipher, set so that a commit is as durable as ours: write-ahead log, synced at every commit.

use std::path::Path;

use anyhow::Result;
use rusqlite::{Connection, params};

use crate::records::{name, value};

/// A table of records in an encrypted database.
pub struct SqlCipher(Connection);

impl SqlCipher {
    /// Opens or makes it.
    pub fn open(file: &Path) -> Result<Self> {
        let connection = Connection::open(file)?;
        // A raw key: without the many rounds that make a password slow, which we do not do either.
        connection.execute_batch(&format!("PRAGMA key = \"x'{}'\";", "5a".repeat(32)))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -1048576;
             CREATE TABLE IF NOT EXISTS records (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;",
        )?;
        let version: String = connection.query_row("PRAGMA cipher_version", [], |row| row.get(0))?;
        anyhow::ensure!(!version.is_empty(), "this SQLite does not encrypt");
        Ok(Self(connection))
    }

    /// Reads one record.
    pub fn get(&self, index: u64) -> Result<Vec<u8>> {
        let mut statement = self.0.prepare_cached("SELECT value FROM records WHERE name = ?1")?;
        Ok(statement.query_row([name(index)], |row| row.get(0))?)
    }

    /// Writes records in one transaction.
    pub fn put(&mut self, indices: impl Iterator<Item = u64>) -> Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut statement =
                transaction.prepare_cached("INSERT OR REPLACE INTO records (name, value) VALUES (?1, ?2)")?;
            for index in indices {
                statement.execute(params![name(index), value(index)])?;
            }
        }
        Ok(transaction.commit()?)
    }
}
