//! ActiveMQ's own clients for Java, of the line for `javax.jms` and of that for `jakarta.jms`. Each
//! test is one story of `tests/interop/java`, told to a broker of its own.
//!
//! Owns the compiled stories and one virtual machine for each line, which end with the tests. The
//! same stories hold with ActiveMQ itself: `ESCROW_JMS_BROKER=classic` has one of those for each
//! story, and `ESCROW_JMS_BROKER=tcp://HOST:PORT` tells all stories that need no crash to the
//! broker there.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin};
use std::sync::OnceLock;
use std::time::Duration;

use super::money::is_of_money;
use super::support::broker::{Broker, run_to_end};
use super::support::fresh_dir;
use super::support::java::{Classic, compile, java};

/// No story takes longer, or it hangs.
const STORY_MAX: Duration = Duration::from_secs(120);

/// Queues of stories (`Class.method`, a number, a name) that hold two messages.
const FEW: &str = "[[destinations]]\nname = \"queue://*.*.*.few\"\nmessages = 2\n\
    when_full = \"hold\"\n";

/// Where ActiveMQ is wrong: it browses 400 messages, it looks for a selector's message among the
/// first 200, and a branch whose commit it refused cannot be prepared any more. One that has voted
/// loses its work to what is done under its name later, one of which a part was refused votes yes,
/// it remembers neither outcomes nor what operators decide, it gives out again what a voted branch
/// has taken when the client reconnects, and calls itself something else after each start. Its
/// queues here have no limit. There these fail.
const NOT_WITH_CLASSIC: &[&str] = &[
    "Choosing.a_browser_takes_nothing",
    "Choosing.a_selector_reaches_deep_into_a_queue",
    "Branches.errors_have_their_codes",
    "Flow.who_sends_too_much_into_a_full_queue_is_told",
    "Verdicts.a_branch_that_has_voted_takes_no_more_work",
    "Verdicts.what_was_refused_in_a_branch_spoils_it",
    "Verdicts.a_commit_whose_answer_was_lost_is_answered_again",
    "Verdicts.an_operators_commit_is_told_and_forgotten",
    "Verdicts.an_operators_rollback_is_told_and_forgotten",
    "Verdicts.a_vote_is_completed_by_who_reconnects",
    "Verdicts.a_broker_is_the_same_after_a_crash",
];

/// A line of ActiveMQ's client.
#[derive(Debug)]
pub(super) struct Line {
    /// Its interfaces' package, and the folder with its jars.
    package: &'static str,
    teller: OnceLock<Teller>,
}

pub(super) static JAVAX: Line = Line { package: "javax", teller: OnceLock::new() };
pub(super) static JAKARTA: Line = Line { package: "jakarta", teller: OnceLock::new() };

/// A virtual machine that tells stories. It ends with its standard input, so with these tests.
#[derive(Debug)]
struct Teller {
    port: u16,
    _child: Child,
    _stdin: ChildStdin,
}

impl Line {
    /// Tells one story, `Class.method`, to a broker of its own.
    ///
    /// # Panics
    /// With what went wrong in it.
    #[track_caller]
    pub(super) fn tell(&'static self, story: &str) {
        let teller = self.teller.get_or_init(|| Teller::start(self.package));
        let mut server = Server::start();
        let url = server.url();
        let told = teller.tell(story, &url, &mut |what| match what {
            "kill" => server.kill(),
            "start" => server.start_again(),
            decision => server.decide(decision),
        });
        let wrong = matches!(server.kind, Kind::Classic(_)) && NOT_WITH_CLASSIC.contains(&story);
        assert!(told.starts_with("true") != wrong, "{} tells {story}: {told}", self.package);
    }

    /// Tells a story of two brokers at these addresses, or of one and a folder; `control` kills and
    /// starts one of them.
    ///
    /// # Panics
    /// With what went wrong in it.
    #[track_caller]
    pub(super) fn tell_of_two(
        &'static self,
        story: &str,
        (here, there): (&str, &str),
        control: &mut dyn FnMut(&str),
    ) {
        let teller = self.teller.get_or_init(|| Teller::start(self.package));
        let told = teller.tell(story, &format!("{here} {there}"), control);
        assert!(told.starts_with("true"), "{story} from {here} to {there}: {told}");
    }

    /// The names of all stories that it can tell.
    pub(super) fn stories(&'static self) -> BTreeSet<String> {
        let teller = self.teller.get_or_init(|| Teller::start(self.package));
        let mut socket = teller.connect();
        socket.write_all(b"list\n").expect("ask the teller");
        let mut names = String::new();
        socket.read_to_string(&mut names).expect("the teller's answer");
        names.lines().map(str::to_owned).collect()
    }
}

impl Teller {
    fn start(package: &str) -> Self {
        let wanted =
            |name: &str| !["Classic", "Container", "Load"].contains(&name) && !is_of_money(name);
        let classes = compile(&[package], package, wanted);
        let mut command = java(&[package], &classes);
        // Quick to start rather than quick in the long run.
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "Teller"]);
        let mut child = command.spawn().expect("missing peer: java");
        let stdin = child.stdin.take().expect("piped");
        let line = BufReader::new(child.stdout.take().expect("piped")).lines().next();
        let port = line.expect("a line").expect("UTF-8").parse().expect("the teller's port");
        Self { port, _child: child, _stdin: stdin }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).expect("the teller listens");
        socket.set_read_timeout(Some(STORY_MAX)).expect("a timeout");
        socket
    }

    /// How the story went: `true`, or `false` and why.
    fn tell(&self, story: &str, urls: &str, control: &mut dyn FnMut(&str)) -> String {
        let mut socket = self.connect();
        writeln!(socket, "{story} {urls}").expect("ask the teller");
        let mut answers = BufReader::new(socket.try_clone().expect("a second handle"));
        loop {
            let mut line = String::new();
            match answers.read_line(&mut line) {
                Ok(0) => return "the teller has gone".to_owned(),
                Err(e) => return format!("no end after {STORY_MAX:?}: {e}"),
                Ok(_) => {}
            }
            if line.starts_with("true") || line.starts_with("false") {
                let _ = answers.read_to_string(&mut line);
                return line;
            }
            control(line.trim_end());
            socket.write_all(b"done\n").expect("answer the teller");
        }
    }
}

/// The broker that a story is told to.
#[derive(Debug)]
pub(super) struct Server {
    kind: Kind,
    port: u16,
    dir: tempfile::TempDir,
}

#[derive(Debug)]
enum Kind {
    Escrow(Option<Broker>),
    Classic(Option<Classic>),
    Elsewhere(String),
}

impl Server {
    #[track_caller]
    pub(super) fn start() -> Self {
        let kind = match std::env::var("ESCROW_JMS_BROKER").as_deref() {
            Err(_) => Kind::Escrow(None),
            Ok("classic") => Kind::Classic(None),
            Ok(url) => Kind::Elsewhere(url.to_owned()),
        };
        let mut server = Self { kind, port: 0, dir: fresh_dir() };
        server.start_again();
        server
    }

    pub(super) fn url(&self) -> String {
        match &self.kind {
            Kind::Elsewhere(url) => url.clone(),
            _ => format!("tcp://127.0.0.1:{}", self.port),
        }
    }

    /// A client that reconnects knows one address, so from the second time on it is the same.
    #[track_caller]
    pub(super) fn start_again(&mut self) {
        let data = self.dir.path().join("data");
        match &mut self.kind {
            Kind::Escrow(broker) => {
                let listen = format!("tcp://127.0.0.1:{}", self.port);
                let settings = data.with_extension("toml");
                std::fs::write(&settings, FEW).expect("write the configuration");
                let settings = settings.to_str().expect("UTF-8");
                let options = ["--config", settings, "--listen", &listen];
                let started = Broker::start_with(&data, &options);
                self.port = started.port();
                *broker = Some(started);
            }
            Kind::Classic(classic) => {
                let started = Classic::start(&data, self.port, &["prioritized"]);
                self.port = started.port();
                *classic = Some(started);
            }
            Kind::Elsewhere(_) => {}
        }
    }

    pub(super) fn kill(&mut self) {
        match &mut self.kind {
            Kind::Escrow(broker) => drop(broker.take()),
            Kind::Classic(classic) => drop(classic.take()),
            Kind::Elsewhere(url) => panic!("the broker at {url} is not ours to kill"),
        }
    }

    /// Decides a branch as an operator does; one of ActiveMQ has no command for that.
    #[track_caller]
    fn decide(&self, decision: &str) {
        let (what, xid) = decision.split_once(' ').expect("a decision, and of which branch");
        if matches!(self.kind, Kind::Escrow(_)) {
            let data = self.dir.path().join("data");
            let data = data.to_str().expect("UTF-8");
            let decided = run_to_end(&["xa", what, "--yes", "--data", data, xid]);
            assert!(decided.status.success(), "{decided:?}");
        }
    }
}

/// One test for each story, in both lines, and one that none was left out.
macro_rules! stories {
    ($($module:ident $class:literal: $($story:ident),+;)+) => {
        $(mod $module {
            mod javax {
                $(#[test]
                fn $story() {
                    crate::jms::JAVAX.tell(concat!($class, ".", stringify!($story)));
                })+
            }
            mod jakarta {
                $(#[test]
                fn $story() {
                    crate::jms::JAKARTA.tell(concat!($class, ".", stringify!($story)));
                })+
            }
        })+

        #[test]
        fn every_story_is_told() {
            let told = [$($(concat!($class, ".", stringify!($story)),)+)+];
            let told: BTreeSet<String> = told.into_iter().map(str::to_owned).collect();
            assert_eq!(JAVAX.stories(), told);
        }
    };
}

stories! {
    connecting "Connecting":
        a_client_needs_no_id,
        a_client_id_is_one_connections,
        an_idle_connection_is_kept_alive,
        the_brokers_end_is_told,
        a_broker_has_a_name,
        old_versions_of_the_wire_are_spoken,
        a_thousand_connections_come_and_go,
        what_the_clients_refuse_by_themselves;
    messages "Messages":
        texts_arrive,
        compressed_texts_arrive,
        bytes_arrive,
        compressed_bytes_arrive,
        maps_arrive,
        compressed_maps_arrive,
        streams_arrive,
        compressed_streams_arrive,
        objects_arrive,
        compressed_objects_arrive,
        properties_arrive,
        headers_arrive,
        ten_megabytes_arrive;
    acknowledging "Acknowledging":
        auto_consumes_what_was_received,
        dups_ok_consumes_what_was_received,
        optimized_acknowledgements_consume_ranges,
        client_acknowledge_consumes_all_so_far,
        client_acknowledge_leaves_what_it_never_told,
        client_acknowledge_goes_beyond_the_prefetch,
        individual_acknowledge_consumes_one,
        synchronous_acknowledgements_are_answered,
        recover_delivers_again,
        acknowledged_stays_so_after_a_crash;
    transactions "Transactions":
        a_commit_shows_what_was_sent,
        a_rollback_forgets_what_was_sent,
        a_commit_consumes_what_was_received,
        a_commit_covers_a_consumer_that_was_closed,
        a_lost_connection_rolls_back,
        a_commit_survives_a_crash,
        a_transaction_may_be_larger_than_the_prefetch,
        sessions_of_a_connection_have_their_own,
        a_thousand_operations_commit_at_once;
    returning "Returning":
        a_rollback_delivers_again_and_counts,
        a_rollback_keeps_the_order,
        what_a_lost_connection_saw_is_flagged,
        what_came_too_often_is_set_apart,
        recover_too_often_sets_apart,
        what_expires_in_the_queue_is_not_delivered,
        a_scheduled_message_waits_for_its_time,
        a_scheduled_message_repeats,
        a_scheduled_message_goes_to_several_queues,
        a_scheduled_publication_reaches_who_is_there_then;
    flow "Flow":
        a_prefetch_of_one_leaves_the_rest_to_others,
        a_prefetch_of_none_pulls,
        a_pull_waits_for_what_comes,
        a_listener_hears_in_order,
        a_stopped_connection_delivers_when_started,
        sends_that_nobody_awaits_arrive,
        a_window_opens_as_sends_are_taken,
        a_producer_names_its_destination_late,
        two_consumers_share_what_comes,
        a_closed_consumer_leaves_what_it_never_saw,
        a_connection_fills_a_queue_that_it_takes_from,
        who_sends_too_much_into_a_full_queue_is_told;
    choosing "Choosing":
        the_higher_priority_comes_first,
        a_selector_chooses,
        a_selector_reaches_deep_into_a_queue,
        a_selector_that_is_none_is_refused,
        a_browser_takes_nothing,
        a_browser_chooses,
        a_browser_looks_at_many,
        an_exclusive_consumer_gets_all,
        the_consumer_of_higher_priority_goes_first,
        what_an_exclusive_consumer_held_goes_to_the_next,
        a_group_stays_with_one_consumer,
        a_group_moves_when_its_consumer_goes,
        a_group_ends_when_its_producer_says_so,
        a_composite_name_reaches_all,
        a_composite_consumer_hears_of_all,
        a_wildcard_consumer_hears_of_all,
        a_pull_from_a_wildcard_finds_what_is_there;
    topics "Topics":
        a_topic_reaches_all_who_listen_now,
        a_topic_goes_on_beyond_the_prefetch,
        no_local_hears_others_alone,
        a_topic_transaction_is_heard_at_its_commit,
        a_large_message_is_heard_and_kept,
        a_virtual_topic_feeds_queues,
        what_a_virtual_topic_fed_survives_a_crash,
        what_several_queues_of_a_virtual_topic_give_up_is_acknowledged,
        advisories_tell_of_consumers,
        advisories_tell_of_what_is_there,
        advisories_tell_of_connections,
        advisories_tell_of_what_expired_and_of_dead_letters,
        a_client_sees_which_destinations_there_are;
    subscriptions "Subscriptions":
        who_was_away_hears_all,
        what_was_kept_survives_a_crash,
        a_subscription_counts_what_comes_again,
        unsubscribed_keeps_nothing,
        nobody_unsubscribes_from_what_is_not_there,
        one_subscription_has_one_subscriber,
        another_selector_begins_anew,
        another_topic_begins_anew,
        what_was_committed_survives_a_crash,
        a_client_id_in_use_is_refused_and_keeps_its_subscription,
        a_selector_counts_for_who_is_away,
        a_subscription_without_its_own,
        a_pattern_keeps_all_that_it_catches_and_each_tells_its_topic,
        many_subscriptions_hear_one_publication;
    temporary "Temporary":
        a_reply_comes_to_a_temporary_queue,
        a_temporary_topic_reaches_its_makers_consumers,
        only_its_maker_consumes_from_it,
        what_was_deleted_takes_no_more,
        it_goes_with_its_connection,
        it_is_not_deleted_under_its_consumer;
    branches "Branches":
        a_prepared_branch_commits,
        a_branch_commits_in_one_phase,
        a_branch_rolls_back,
        a_prepared_branch_rolls_back,
        a_branch_without_work_is_read_only,
        a_suspended_branch_goes_on,
        sessions_join_a_branch,
        sessions_of_a_branch_overlap,
        errors_have_their_codes,
        brokers_are_the_same_or_not,
        a_vote_outlives_its_connection,
        work_without_a_vote_goes_with_its_connection,
        votes_survive_a_crash,
        a_session_goes_from_branch_to_branch;
    failing "Failing":
        no_confirmed_send_is_lost_or_doubled,
        a_consumer_goes_on_after_a_crash,
        transactions_pass_every_message_once,
        a_temporary_queue_comes_back,
        a_subscription_goes_on_after_a_crash;
    options "Options":
        a_name_may_have_a_selector,
        a_name_may_want_nothing_local,
        a_name_may_have_a_window,
        a_name_may_say_how_it_is_dispatched,
        a_name_with_many_options_means_them_all,
        an_option_that_is_none_is_refused,
        a_slow_listener_keeps_the_newest,
        a_retroactive_listener_hears_what_comes,
        a_window_changes_while_its_consumer_lives,
        many_times_the_window_fits_a_transaction;
    breaking "Breaking":
        what_the_old_connection_held_comes_again_flagged,
        a_send_whose_answer_was_lost_is_there_once,
        who_comes_back_often_is_soon_served,
        a_temporary_queue_comes_along,
        a_durable_subscription_comes_along,
        a_pull_comes_along,
        a_listener_comes_along,
        transactions_outlive_their_connections,
        what_a_client_takes_for_a_double_is_not_given_up;
    verdicts "Verdicts":
        a_session_works_in_one_branch_at_a_time,
        a_branch_that_has_voted_takes_no_more_work,
        what_was_refused_in_a_branch_spoils_it,
        a_lost_broker_is_told_as_one,
        a_vote_whose_answer_was_lost_waits_for_its_manager,
        a_commit_whose_answer_was_lost_is_answered_again,
        an_operators_commit_is_told_and_forgotten,
        an_operators_rollback_is_told_and_forgotten,
        a_scan_finds_each_branch,
        connections_join_a_branch,
        a_suspended_branch_rests_while_its_session_works_in_another,
        a_branch_that_found_nothing_is_read_only,
        a_vote_is_completed_by_who_reconnects,
        work_that_a_crash_interrupted_is_whole_or_not_at_all,
        a_branch_of_two_parts_is_not_committed_without_the_first,
        a_broker_is_the_same_after_a_crash;
    using "Using":
        a_server_gives_its_own_sessions,
        a_requestor_has_its_answer,
        a_context_sends_and_receives,
        a_context_has_durable_consumers,
        a_blob_is_found_by_its_address,
        settings_change_nothing_of_what_is_promised,
        each_redelivery_of_a_batch_may_be_settled_by_itself,
        redeliveries_that_wait_let_others_by,
        other_transports_carry_the_same,
        a_send_may_be_told_of_later,
        a_queue_in_use_is_not_destroyed;
}
