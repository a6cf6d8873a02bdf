//! Two backends at once, every answer compared: for tests.

use std::sync::Arc;

use bytes::Bytes;

use super::{Backend, EachRow, Edit, Step};
use crate::fault::Fault;

/// Does everything on both and fails with [`Fault::Inconsistent`] where they differ.
#[derive(Debug)]
pub struct Mirror {
    left: Arc<dyn Backend>,
    right: Arc<dyn Backend>,
}

impl Mirror {
    /// Two backends that hold the same rows.
    pub fn new(left: Arc<dyn Backend>, right: Arc<dyn Backend>) -> Self {
        Self { left, right }
    }
}

/// The error of two different answers. Names the operation, never a value.
fn differ<T>(operation: &str) -> Result<T, Fault> {
    Err(Fault::Inconsistent {
        what: format!("two backends answer {operation} differently"),
    })
}

impl Backend for Mirror {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let (left, right) = (self.left.get(key)?, self.right.get(key)?);
        if left == right {
            Ok(left)
        } else {
            differ("get")
        }
    }

    fn scan(&self, prefix: &[u8], from: &[u8], each: EachRow<'_>) -> Result<(), Fault> {
        let mut right = Vec::new();
        self.right.scan(prefix, from, &mut |key, value| {
            right.push((key.to_vec(), value));
            Ok(Step::Next)
        })?;
        let mut right = right.into_iter();
        let mut stopped = false;
        self.left.scan(prefix, from, &mut |key, value| {
            match right.next() {
                Some((other, same)) if other == key && same == value => {}
                _ => return differ("scan"),
            }
            let step = each(key, value)?;
            stopped = step == Step::Stop;
            Ok(step)
        })?;
        if !stopped && right.next().is_some() {
            return differ("scan");
        }
        Ok(())
    }

    fn write(&self, edits: Vec<Edit>) -> Result<(), Fault> {
        self.left.write(edits.clone())?;
        self.right.write(edits)
    }

    fn flush(&self) -> Result<(), Fault> {
        self.left.flush()?;
        self.right.flush()
    }

    fn size_on_disk(&self) -> Result<u64, Fault> {
        Ok(self.left.size_on_disk()?.max(self.right.size_on_disk()?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::memory::Memory;
    use super::*;

    #[test]
    fn two_backends_that_differ_are_found_out() {
        let (left, right) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        let both = Mirror::new(left.clone(), right.clone());
        both.write(vec![("a".into(), Some("1".into()))]).unwrap();
        assert_eq!(both.get(b"a").unwrap().unwrap(), "1");
        right.write(vec![("b".into(), Some("2".into()))]).unwrap();
        assert!(matches!(both.get(b"b"), Err(Fault::Inconsistent { .. })));
        let scanned = both.scan(b"", b"", &mut |_, _| Ok(Step::Next));
        assert!(matches!(scanned, Err(Fault::Inconsistent { .. })));
        left.write(vec![("b".into(), Some("3".into()))]).unwrap();
        let scanned = both.scan(b"", b"", &mut |_, _| Ok(Step::Next));
        assert!(matches!(scanned, Err(Fault::Inconsistent { .. })));
    }
}
