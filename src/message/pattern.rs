//! Names with wildcards: `.` separates the parts of a name, `*` stands for any one part, and `>` as
//! the last for any number of parts, none too.
//!
//! Always: what the broker has made for itself, and what belongs to one connection, is caught by no
//! pattern that does not name it.

use std::fmt;
use std::sync::Arc;

use super::{Destination, TEMPORARY, TEMPORARY_TOPIC};

/// Begins the names of topics on which the broker tells of itself.
pub const ADVISORY: &str = "ActiveMQ.Advisory.";

/// The first parts of the names of the broker's own topics, and of its own queues.
const OWN_TOPICS: &str = "ActiveMQ.Advisory";
const OWN_QUEUES: &str = "ActiveMQ";

/// Whether a name stands for many: it has a part that is `*` or `>`.
#[must_use]
pub fn has_wildcards(name: &str) -> bool {
    name.bytes().any(|byte| matches!(byte, b'*' | b'>'))
        && name.split('.').any(|part| matches!(part, "*" | ">"))
}

/// A name, perhaps with wildcards. The most specific sorts first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern(Box<[Part]>);

/// One part of such a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Named(Box<str>),
    Any,
    Rest,
}

/// A name that is no pattern: a part is empty, or `>` is not the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part of the name is empty, or a > is not the last part")]
pub struct MalformedPattern;

impl NamePattern {
    /// From its text.
    ///
    /// # Errors
    /// [`MalformedPattern`].
    pub fn parse(text: &str) -> Result<Self, MalformedPattern> {
        let mut names = text.split('.').peekable();
        let mut parts = Vec::new();
        while let Some(name) = names.next() {
            parts.push(match name {
                "" => return Err(MalformedPattern),
                ">" if names.peek().is_some() => return Err(MalformedPattern),
                ">" => Part::Rest,
                "*" => Part::Any,
                name => Part::Named(name.into()),
            });
        }
        Ok(Self(parts.into()))
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Whether it stands for that name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut names = name.split('.');
        for part in &self.0 {
            let fits = match part {
                Part::Rest => return true,
                Part::Any => names.next().is_some(),
                Part::Named(part) => names.next() == Some(part),
            };
            if !fits {
                return false;
            }
        }
        names.next().is_none()
    }

    /// Whether there is a name for which both stand.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.iter(), other.0.iter());
        loop {
            match (ours.next(), theirs.next()) {
                (Some(Part::Rest), _) | (_, Some(Part::Rest)) | (None, None) => return true,
                (Some(Part::Named(our)), Some(Part::Named(their))) if our != their => return false,
                (Some(_), Some(_)) => {}
                (Some(_), None) | (None, Some(_)) => return false,
            }
        }
    }

    /// Whether it stands for every name for which the other does.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.iter(), other.0.iter());
        loop {
            match (ours.next(), theirs.next()) {
                (Some(Part::Rest), _) | (None, None) => return true,
                (Some(Part::Any), Some(Part::Any | Part::Named(_))) => {}
                (Some(Part::Named(our)), Some(Part::Named(their))) if our == their => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            f.write_str(if index > 0 { "." } else { "" })?;
            f.write_str(match part {
                Part::Named(name) => name,
                Part::Any => "*",
                Part::Rest => ">",
            })?;
        }
        Ok(())
    }
}

/// All destinations of one kind whose names match: from what a consumer with wildcards reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wildcard {
    topic: bool,
    name: Arc<str>,
    pattern: NamePattern,
}

impl Wildcard {
    /// For what a destination stands that has wildcards in its name; `None` where it has none.
    ///
    /// # Errors
    /// [`MalformedPattern`].
    pub fn of(destination: &Destination) -> Result<Option<Self>, MalformedPattern> {
        let (topic, name) = match destination {
            Destination::Queue(name) => (false, name),
            Destination::Topic(name) => (true, name),
        };
        if !has_wildcards(name) {
            return Ok(None);
        }
        Ok(Some(Self { topic, name: Arc::clone(name), pattern: NamePattern::parse(name)? }))
    }

    /// Whether it stands for topics; otherwise for queues.
    #[must_use]
    pub fn is_topic(&self) -> bool {
        self.topic
    }

    /// Its text.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it looks like.
    #[must_use]
    pub fn pattern(&self) -> &NamePattern {
        &self.pattern
    }

    /// Whether it reads from the destination of that name, of its own kind.
    #[must_use]
    pub fn catches(&self, name: &str) -> bool {
        self.may_see(name) && self.pattern.matches(name)
    }

    /// Whether the destination is nobody's own, or the pattern begins with the same parts.
    pub(crate) fn may_see(&self, name: &str) -> bool {
        let (own, temporary) =
            if self.topic { (OWN_TOPICS, TEMPORARY_TOPIC) } else { (OWN_QUEUES, TEMPORARY) };
        let is_own = |name: &str| {
            name.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !name.starts_with(temporary) && (!is_own(name) || is_own(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> NamePattern {
        NamePattern::parse(text).unwrap()
    }

    #[test]
    fn a_star_is_one_part_and_an_angle_bracket_is_the_rest_or_none() {
        for (text, yes, no) in [
            ("a.*", &["a.b", "a.>"][..], &["a", "a.b.c", "b.a"][..]),
            ("a.>", &["a", "a.b", "a.b.c"], &["ab", "b"]),
            ("*.b", &["a.b"], &["b", "a.c", "a.b.c"]),
            (">", &["a", "a.b"], &[]),
            ("*.b.>", &["a.b", "a.b.c"], &["a", "a.c.b"]),
        ] {
            assert!(has_wildcards(text));
            assert_eq!(pattern(text).to_string(), text);
            yes.iter().for_each(|name| assert!(pattern(text).matches(name), "{text} {name}"));
            no.iter().for_each(|name| assert!(!pattern(text).matches(name), "{text} {name}"));
        }
        for text in ["a.>.b", "a..>", ".*", "*."] {
            assert_eq!(NamePattern::parse(text), Err(MalformedPattern), "{text}");
        }
        assert!(!has_wildcards("a*b.c>"));
    }

    #[test]
    fn what_patterns_have_in_common_is_known_without_a_name() {
        let rows = [
            ("a.>", "a.*", true, true),
            ("a.>", "a", true, true),
            ("a.*", "a.>", true, false),
            ("a.*", "*.b", true, false),
            ("*.b", "a.b", true, true),
            ("a.b", "*.b", true, false),
            ("a.*", "a", false, false),
            ("a.b", "a.c", false, false),
            (">", "a.b.c", true, true),
            ("a.b", "a.b", true, true),
        ];
        for (one, other, common, all) in rows {
            assert_eq!(pattern(one).overlaps(&pattern(other)), common, "{one} {other}");
            assert_eq!(pattern(other).overlaps(&pattern(one)), common, "{other} {one}");
            assert_eq!(pattern(one).includes(&pattern(other)), all, "{one} {other}");
        }
    }

    #[test]
    fn what_is_the_brokers_own_or_a_connections_is_caught_only_by_name() {
        let caught = |destination: Destination, name: &str| {
            Wildcard::of(&destination).unwrap().expect("a pattern").catches(name)
        };
        let advisory = "ActiveMQ.Advisory.Connection";
        for text in [">", "*.*.*", "ActiveMQ.>", "*.Advisory.Connection"] {
            assert!(!caught(Destination::topic(text), advisory), "{text}");
        }
        assert!(caught(Destination::topic("ActiveMQ.Advisory.>"), advisory));
        assert!(!caught(Destination::queue(">"), "ActiveMQ.DLQ"));
        assert!(caught(Destination::queue("ActiveMQ.>"), "ActiveMQ.DLQ"));
        assert!(!caught(Destination::queue(">"), &format!("{TEMPORARY}ID:a")));
        assert!(!caught(Destination::topic(">"), &format!("{TEMPORARY_TOPIC}ID:a")));
        assert!(Wildcard::of(&Destination::queue("a")).unwrap().is_none());
    }
}
