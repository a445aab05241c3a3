//! The name that a transaction manager gives one branch of a global transaction.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Bytes of each part at most.
pub const XID_PART_BYTES_MAX: usize = 64;

/// The name of a branch, byte for byte as its transaction manager made it. Sorts in some fixed
/// order.
///
/// Both names lie side by side: very many are in memory, in sets of what has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Xid {
    format: i32,
    /// Bytes of the first of the names.
    global: u8,
    names: Box<[u8]>,
}

/// As it is in rows of the index.
#[derive(serde::Serialize, serde::Deserialize)]
struct Parts {
    format: i32,
    global: Box<[u8]>,
    branch: Box<[u8]>,
}

impl From<Xid> for Parts {
    fn from(xid: Xid) -> Self {
        Self { format: xid.format, global: xid.global().into(), branch: xid.branch().into() }
    }
}

impl TryFrom<Parts> for Xid {
    type Error = BadXid;

    fn try_from(Parts { format, global, branch }: Parts) -> Result<Self, BadXid> {
        Self::new(format, &global, &branch)
    }
}

impl Ord for Xid {
    fn cmp(&self, other: &Self) -> Ordering {
        let formats = self.format.cmp(&other.format);
        let globals = formats.then_with(|| self.global().cmp(other.global()));
        globals.then_with(|| self.branch().cmp(other.branch()))
    }
}

impl PartialOrd for Xid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// This names no branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no xid: an xid has a format, a number that is not -1, and two names of 64 bytes at \
     most; as text it is FORMAT:GLOBAL:BRANCH, the names in hexadecimal, like 131077:6f7264:01"
)]
pub struct BadXid;

impl Xid {
    /// The branch `branch` of the global transaction `global`.
    ///
    /// # Errors
    /// Where a part is longer than [`XID_PART_BYTES_MAX`], or the format is -1, which stands for
    /// no xid at all.
    pub fn new(format: i32, global: &[u8], branch: &[u8]) -> Result<Self, BadXid> {
        let long = global.len() > XID_PART_BYTES_MAX || branch.len() > XID_PART_BYTES_MAX;
        if long || format == -1 {
            return Err(BadXid);
        }
        let length = u8::try_from(global.len()).expect("just seen");
        Ok(Self { format, global: length, names: [global, branch].concat().into() })
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> i32 {
        self.format
    }

    /// The name of the global transaction.
    #[must_use]
    pub fn global(&self) -> &[u8] {
        &self.names[..usize::from(self.global)]
    }

    /// Which branch of it.
    #[must_use]
    pub fn branch(&self) -> &[u8] {
        &self.names[usize::from(self.global)..]
    }

    /// Format i32, length u8, global transaction, length u8, branch; little-endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = |part: &[u8]| u8::try_from(part.len()).expect("checked when it was made");
        let mut bytes = self.format.to_le_bytes().to_vec();
        for part in [self.global(), self.branch()] {
            bytes.push(length(part));
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// The xid at the beginning of `bytes`, as [`Xid::to_bytes`] has it, and what follows.
    #[must_use]
    pub fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (format, rest) = bytes.split_first_chunk()?;
        let part = |rest: &'_ [u8]| {
            let (length, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(*length)).map(|(part, _)| part.len() + 1)
        };
        let (global, rest) = rest.split_at(part(rest)?);
        let (branch, rest) = rest.split_at(part(rest)?);
        let xid = Self::new(i32::from_le_bytes(*format), &global[1..], &branch[1..]);
        Some((xid.ok()?, rest))
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.format)?;
        for part in [self.global(), self.branch()] {
            f.write_str(":")?;
            part.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

impl FromStr for Xid {
    type Err = BadXid;

    /// Reads one as it is displayed: format, and the parts in hexadecimal.
    fn from_str(text: &str) -> Result<Self, BadXid> {
        let mut parts = text.split(':');
        let format = parts.next().and_then(|it| it.parse().ok()).ok_or(BadXid)?;
        let (global, branch) = (parts.next().ok_or(BadXid)?, parts.next().ok_or(BadXid)?);
        if parts.next().is_some() {
            return Err(BadXid);
        }
        Self::new(format, &unhex(global)?, &unhex(branch)?)
    }
}

fn unhex(text: &str) -> Result<Vec<u8>, BadXid> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(BadXid);
    }
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| BadXid);
    (0..text.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_survives_its_bytes_and_its_text(
            format in any::<i32>(),
            global in proptest::collection::vec(any::<u8>(), 0..70),
            branch in proptest::collection::vec(any::<u8>(), 0..70),
        ) {
            let xid = Xid::new(format, &global, &branch);
            let long = global.len() > 64 || branch.len() > 64 || format == -1;
            prop_assert_eq!(xid.is_err(), long);
            let Ok(xid) = xid else { return Ok(()) };
            let mut bytes = xid.to_bytes();
            bytes.push(7);
            prop_assert_eq!(Xid::split(&bytes), Some((xid.clone(), &[7][..])));
            prop_assert_eq!(xid.to_string().parse(), Ok(xid));
        }

        #[test]
        fn names_sort_by_format_and_then_by_each_part(
            one in (0..2i32, "[ab]{0,3}", "[ab]{0,3}"),
            other in (0..2i32, "[ab]{0,3}", "[ab]{0,3}"),
        ) {
            let xid = |(format, global, branch): &(i32, String, String)| {
                Xid::new(*format, global.as_bytes(), branch.as_bytes()).unwrap()
            };
            prop_assert_eq!(xid(&one).cmp(&xid(&other)), one.cmp(&other));
            prop_assert_eq!(xid(&one) == xid(&other), one == other);
        }

        #[test]
        fn any_bytes_are_a_name_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..150)) {
            if let Some((xid, rest)) = Xid::split(&bytes) {
                prop_assert_eq!([&xid.to_bytes()[..], rest].concat(), bytes);
            }
        }
    }
}
