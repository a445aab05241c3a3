//! LIKE: `%` is any text, `_` any character, and an escape takes the sign after it by its word.
//!
//! A pattern is cut at its `%` into pieces of a fixed number of characters. Each is sought once,
//! from where the last one ended: the first place will do, so nothing is ever tried again.

use memchr::memmem;

use super::error::Problem;

#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// Cut at `%`: the first is bound to the beginning, the last to the end.
    pieces: Vec<Piece>,
}

/// Characters, `None` for any.
#[derive(Clone, Debug, Default)]
struct Piece {
    characters: Vec<Option<char>>,
    /// The same, where none may be any.
    text: Option<Box<str>>,
}

impl Pattern {
    pub(super) fn new(pattern: &str, escape: Option<char>) -> Result<Self, Problem> {
        let mut pieces = vec![Piece::default()];
        let mut characters = pattern.chars();
        while let Some(c) = characters.next() {
            let last = pieces.last_mut().expect("there is one at least");
            match c {
                c if Some(c) == escape => {
                    let what = "the escape at the end of the pattern escapes nothing";
                    let next = characters.next().ok_or(Problem::Escape(what))?;
                    last.characters.push(Some(next));
                }
                '%' => pieces.push(Piece::default()),
                '_' => last.characters.push(None),
                c => last.characters.push(Some(c)),
            }
        }
        for piece in &mut pieces {
            piece.text =
                piece.characters.iter().copied().collect::<Option<String>>().map(Into::into);
        }
        Ok(Self { pieces })
    }

    /// Whether a text is like it; `None` where that takes more steps than are left.
    pub(super) fn fits(&self, text: &str, steps: &mut usize) -> Option<bool> {
        let (first, rest) = self.pieces.split_first().expect("there is one at least");
        let Some(mut left) = first.strip(text, steps)? else { return Some(false) };
        let Some((last, middle)) = rest.split_last() else { return Some(left.is_empty()) };
        for piece in middle {
            match piece.seek(left, steps)? {
                Some(behind) => left = behind,
                None => return Some(false),
            }
        }
        last.ends(left, steps)
    }
}

impl Piece {
    /// What follows it at the beginning of a text.
    fn strip<'a>(&self, text: &'a str, steps: &mut usize) -> Option<Option<&'a str>> {
        if let Some(own) = &self.text {
            spend(steps, own.len() / BYTES_A_STEP)?;
            return Some(text.strip_prefix(&**own));
        }
        let mut left = text.chars();
        for wanted in &self.characters {
            spend(steps, 1)?;
            match (left.next(), wanted) {
                (Some(found), Some(wanted)) if found == *wanted => {}
                (Some(_), None) => {}
                _ => return Some(None),
            }
        }
        Some(Some(left.as_str()))
    }

    /// What follows it where it first is in a text.
    fn seek<'a>(&self, mut text: &'a str, steps: &mut usize) -> Option<Option<&'a str>> {
        if let Some(own) = &self.text {
            let found = memmem::find(text.as_bytes(), own.as_bytes());
            let searched = found.unwrap_or(text.len()) + own.len();
            spend(steps, 1 + searched / BYTES_A_STEP)?;
            return Some(found.map(|at| &text[at + own.len()..]));
        }
        loop {
            spend(steps, 1)?;
            if let Some(behind) = self.strip(text, steps)? {
                return Some(Some(behind));
            }
            let mut shorter = text.chars();
            if shorter.next().is_none() {
                return Some(None);
            }
            text = shorter.as_str();
        }
    }

    /// Whether a text ends with it.
    fn ends(&self, text: &str, steps: &mut usize) -> Option<bool> {
        if let Some(own) = &self.text {
            spend(steps, own.len() / BYTES_A_STEP)?;
            return Some(text.ends_with(&**own));
        }
        let mut left = text.chars();
        for wanted in self.characters.iter().rev() {
            spend(steps, 1)?;
            match (left.next_back(), wanted) {
                (Some(found), Some(wanted)) if found == *wanted => {}
                (Some(_), None) => {}
                _ => return Some(false),
            }
        }
        Some(true)
    }
}

/// Bytes that are compared or searched in the time of about one step.
pub(super) const BYTES_A_STEP: usize = 64;

fn spend(steps: &mut usize, count: usize) -> Option<()> {
    *steps = steps.checked_sub(count)?;
    Some(())
}
