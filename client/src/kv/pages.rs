//! A range of any size, in pages, as if it had been read at once.
//!
//! The first page fixes the revision; every later page reads at it and goes on after the last key.

use futures::Stream;
use meridian_domain::kv::KeyValue;

use crate::connect::Client;
use crate::error::Result;
use crate::keys::Keys;
use crate::kv::{Order, SortBy};

/// A read in pages.
#[derive(Debug)]
#[must_use = "pages are read with `next` or as a stream"]
pub struct Pages {
    client: Client,
    rest: Option<Keys>,
    size: i64,
    revision: i64,
    keys_only: bool,
}

impl Pages {
    pub(crate) fn new(client: Client, keys: Keys) -> Self {
        Self {
            client,
            rest: Some(keys),
            size: 1_000,
            revision: 0,
            keys_only: false,
        }
    }

    /// Keys to a page; 1,000 unless told otherwise. Below one is one.
    pub fn size(mut self, keys: i64) -> Self {
        self.size = keys.max(1);
        self
    }

    /// Reads at an earlier revision.
    pub fn revision(mut self, revision: i64) -> Self {
        self.revision = revision;
        self
    }

    /// Leaves out the values.
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// The revision that is read; zero before the first page.
    pub fn at(&self) -> i64 {
        self.revision
    }

    /// The next page, in key order; none after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<KeyValue>>> {
        let Some(keys) = self.rest.clone() else {
            return Ok(None);
        };
        let mut read = self
            .client
            .range(keys.clone())
            .revision(self.revision)
            .limit(self.size)
            .sort(SortBy::Key, Order::Ascending);
        if self.keys_only {
            read = read.keys_only();
        }
        let page = read.await?;
        if self.revision == 0 {
            self.revision = page.revision;
        }
        self.rest = match page.kvs.last() {
            Some(last) if page.more && !keys.is_one() => Some(keys.after(&last.key)),
            _ => None,
        };
        Ok((!page.kvs.is_empty()).then_some(page.kvs))
    }

    /// The pages as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Vec<KeyValue>>> + Send {
        futures::stream::try_unfold(self, |mut pages| async move {
            Ok(pages.next().await?.map(|page| (page, pages)))
        })
    }
}
