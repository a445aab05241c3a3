//! Who may do what with which destination.
//!
//! Rules are found as limits are: the most specific pattern that fits a name counts, and it alone.
//! Always: what no rule fits is allowed to nobody, once there is a rule at all. Who reads from a
//! pattern may read from all that it can ever catch: a rule is for all of that, and no more
//! specific one that is for a part of it denies him.

use std::fmt;

use crate::broker::policy::{Pattern, PatternError};
use crate::message::{Destination, MalformedPattern, Notice, Wildcard};
use crate::security::Principal;

/// What somebody wants to do with a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Consume and browse.
    Read,
    /// Send and publish.
    Write,
    /// Purge, delete and move.
    Admin,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

/// Who has each right, as users, groups, or `*` for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Who may consume.
    pub read: Vec<String>,
    /// Who may send.
    pub write: Vec<String>,
    /// Who may purge, delete and move.
    pub admin: Vec<String>,
}

impl Rule {
    fn grants(&self, right: Right, to: &Principal) -> bool {
        let grantees = match right {
            Right::Read => &self.read,
            Right::Write => &self.write,
            Right::Admin => &self.admin,
        };
        grantees.iter().any(|grantee| to.is(grantee))
    }
}

/// The advisory topics, which clients of ActiveMQ read to know of temporary destinations.
const ADVISORIES: &str = "topic://ActiveMQ.Advisory.>";

/// All rules.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The most specific first; `None` where everybody may do everything.
    rules: Option<Vec<(Pattern, Rule)>>,
}

impl Access {
    /// Of rules in any order; without one everybody may do everything. Advisory topics can be read
    /// by all where no rule is as specific about them.
    ///
    /// # Errors
    /// [`PatternError`]: a pattern that is none, or two rules for one.
    pub fn new(rules: Vec<(String, Rule)>) -> Result<Self, PatternError> {
        if rules.is_empty() {
            return Ok(Self::default());
        }
        let parsed = rules.into_iter().map(|(text, rule)| Ok((Pattern::parse(&text)?, rule)));
        let mut rules = parsed.collect::<Result<Vec<_>, PatternError>>()?;
        let advisories = Pattern::parse(ADVISORIES)?;
        if rules.iter().all(|(pattern, _)| *pattern != advisories) {
            rules.push((advisories, Rule { read: vec!["*".to_owned()], ..Rule::default() }));
        }
        rules.sort_by(|(a, _), (b, _)| a.cmp(b));
        match rules.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(PatternError::Twice(pair[0].0.to_string())),
            None => Ok(Self { rules: Some(rules) }),
        }
    }

    /// Whether anything is forbidden to anybody.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        self.rules.is_some()
    }

    /// Whether somebody may do that. Who reads what is told of messages must be allowed to read
    /// these.
    #[must_use]
    pub fn allows(&self, who: &Principal, right: Right, destination: &Destination) -> bool {
        let Some(rules) = &self.rules else { return true };
        let allows = |destination| allows(rules, who, right, destination);
        let heard = if right == Right::Read { Notice::heard_on(destination) } else { Vec::new() };
        allows(destination) && heard.iter().all(allows)
    }
}

fn allows(
    rules: &[(Pattern, Rule)],
    who: &Principal,
    right: Right,
    destination: &Destination,
) -> bool {
    match Wildcard::of(destination) {
        Ok(Some(wildcard)) => return allows_all(rules, who, right, &wildcard),
        Ok(None) => {}
        Err(MalformedPattern) => return false,
    }
    let rule = rules.iter().find(|(pattern, _)| pattern.covers(destination));
    rule.is_some_and(|(_, rule)| rule.grants(right, who))
}

fn allows_all(rules: &[(Pattern, Rule)], who: &Principal, right: Right, names: &Wildcard) -> bool {
    for (pattern, rule) in rules {
        let (some, all) = pattern.meets(names);
        if some && !rule.grants(right, who) {
            return false;
        }
        // What comes behind such a rule decides about none of these.
        if all {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(read: &str, write: &str) -> Rule {
        Rule { read: vec![read.to_owned()], write: vec![write.to_owned()], admin: Vec::new() }
    }

    fn who(name: &str, groups: &[&str]) -> Principal {
        Principal { name: name.into(), groups: groups.iter().map(|g| Box::from(*g)).collect() }
    }

    #[test]
    fn the_most_specific_rule_decides_alone() {
        let access = Access::new(vec![
            ("queue://>".to_owned(), rule("ops", "ops")),
            ("queue://orders.>".to_owned(), rule("desk", "feed")),
            ("queue://orders.old".to_owned(), Rule::default()),
        ]);
        let access = access.unwrap();
        let (ann, feed, ops) = (who("ann", &["desk"]), who("feed", &[]), who("o", &["ops"]));
        let may = |who: &Principal, right, name: &str| {
            access.allows(who, right, &Destination::queue(name))
        };
        assert!(may(&ann, Right::Read, "orders.new") && !may(&ann, Right::Write, "orders.new"));
        assert!(may(&feed, Right::Write, "orders.new") && !may(&feed, Right::Read, "orders.new"));
        assert!(!may(&ops, Right::Read, "orders.new") && may(&ops, Right::Write, "other"));
        assert!(!may(&ann, Right::Read, "orders.old") && !may(&ann, Right::Admin, "orders.new"));
        assert!(!access.allows(&ops, Right::Read, &Destination::topic("other")));
    }

    #[test]
    fn who_reads_from_a_pattern_may_read_from_all_that_it_can_catch() {
        let access = Access::new(vec![
            ("topic://news.>".to_owned(), rule("ann", "ann")),
            ("topic://news.secret.>".to_owned(), rule("ops", "ops")),
            ("topic://public.*".to_owned(), rule("*", "ops")),
            ("queue://>".to_owned(), rule("ann", "ann")),
        ]);
        let access = access.unwrap();
        let may = |name: &str, text: &str| {
            access.allows(&who(name, &[]), Right::Read, &Destination::topic(text))
        };
        assert!(may("ann", "news.sport.>") && may("ann", "news.sport.*"));
        assert!(!may("ann", "news.>"), "a part of it is for others");
        assert!(!may("ann", "news.*"), "news.secret is for others");
        assert!(!may("ops", "news.>") && may("ops", "news.secret.*"));
        assert!(may("bob", "public.*") && !may("bob", "public.>") && !may("bob", ">"));
        assert!(may("bob", "ActiveMQ.Advisory.Consumer.>"), "these are for all");
        assert!(!may("ann", "news..>"));
        // Rules about what a pattern never catches do not count.
        let closed = [(ADVISORIES, rule("ops", "ops")), ("topic://>", rule("ann", "ann"))];
        let closed = closed.map(|(text, rule)| (text.to_owned(), rule)).to_vec();
        let access = Access::new(closed).unwrap();
        let read =
            |name, text| access.allows(&who(name, &[]), Right::Read, &Destination::topic(text));
        assert!(read("ann", ">") && !read("ann", "ActiveMQ.Advisory.Producer.>"));
        assert!(read("ops", "ActiveMQ.Advisory.Producer.>") && !read("ops", ">"));
    }

    #[test]
    fn without_a_rule_everybody_may_do_everything() {
        let access = Access::new(Vec::new()).unwrap();
        assert!(access.allows(&who("x", &[]), Right::Admin, &Destination::queue("q")));
    }

    #[test]
    fn advisories_are_read_by_all_unless_a_rule_says_otherwise() {
        let topic = Destination::topic("ActiveMQ.Advisory.TempQueue");
        let narrow = vec![("topic://>".to_owned(), rule("ops", "ops"))];
        let access = Access::new(narrow).unwrap();
        assert!(access.allows(&who("x", &[]), Right::Read, &topic));
        assert!(!access.allows(&who("o", &["ops"]), Right::Write, &topic));
        let closed = vec![(ADVISORIES.to_owned(), rule("ops", "ops"))];
        let access = Access::new(closed).unwrap();
        assert!(!access.allows(&who("x", &[]), Right::Read, &topic));
    }

    #[test]
    fn what_is_told_of_messages_is_heard_by_who_may_read_them() {
        let (mine, rest) = (rule("ann", "ann"), rule("ops", "ops"));
        let rules = [("queue://mine.>", mine), ("queue://>", rest.clone()), ("topic://>", rest)];
        let rules = rules.map(|(text, rule)| (text.to_owned(), rule)).to_vec();
        let access = Access::new(rules).unwrap();
        let may = |name, text: &str| {
            let topic = Destination::topic(format!("ActiveMQ.Advisory.{text}"));
            access.allows(&who(name, &[]), Right::Read, &topic)
        };
        for (topic, ann, ops) in [
            ("Expired.Queue.mine.a", true, false),
            ("MessageDLQd.Queue.mine.>", true, false),
            ("Expired.Queue.other", false, true),
            ("Expired.Topic.t", false, true),
            ("MessageDLQd.>", false, false),
            (">", false, false),
            ("*.*.mine.a", false, false),
            ("Consumer.>", true, true),
            ("Consumer.Queue.other", true, true),
        ] {
            assert_eq!((may("ann", topic), may("ops", topic)), (ann, ops), "{topic}");
        }
    }

    #[test]
    fn two_rules_for_one_pattern_are_refused() {
        let twice = vec![("queue://a".to_owned(), Rule::default()); 2];
        assert!(Access::new(twice).unwrap_err().to_string().contains("queue://a"));
    }
}
