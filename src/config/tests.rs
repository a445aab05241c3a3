//! Settings are read, described and held within their ranges.

use super::*;

#[test]
fn the_described_defaults_are_the_defaults() {
    let described: Config = toml::from_str(DEFAULTS).expect("the description is TOML");
    assert_eq!(described, Config::default());
    described.check().expect("the defaults are in range");
}

#[test]
fn every_setting_is_described() {
    let described: toml::Table = toml::from_str(DEFAULTS).unwrap();
    let names: Vec<_> = described
        .iter()
        .flat_map(|(name, value)| match value.as_table() {
            Some(table) => table.keys().map(|key| format!("{name}.{key}")).collect(),
            None => vec![name.clone()],
        })
        .collect();
    // The derived `Debug` names every field there is.
    let fields = format!("{:?}", Config::default()).matches(": ").count();
    let sections = described.values().filter(|value| value.is_table()).count();
    assert_eq!(names.len() + sections, fields, "{names:?}");
}

#[test]
fn a_setting_that_does_not_exist_is_named() {
    let error = toml::from_str::<Config>("[log]\nsegment = 3\n").unwrap_err();
    assert!(error.to_string().contains("segment"), "{error}");
}

#[test]
fn times_are_what_their_names_say() {
    let text = "[duplicates]\nhours = 2\nproducer_hours = 3\n\
        [xa]\ntimeout = 4\nwarn_after = 5\noutcome_hours = 6\n";
    let limits = toml::from_str::<Config>(text).unwrap().engine_settings().limits;
    assert_eq!((limits.names_millis, limits.producers_millis), (7_200_000, 10_800_000));
    assert_eq!((limits.branch_millis, limits.branch_warn_millis), (4_000, 5_000));
    assert_eq!(limits.outcome_millis, 21_600_000);
}

#[test]
fn limits_of_destinations_are_read_or_refused_with_a_reason() {
    let text = r#"
        [[destinations]]
        name = "queue://orders.>"
        messages = 10
        when_full = "hold"
        [[destinations]]
        name = "topic://*"
        bytes = "1KiB"
        when_full = "drop-oldest"
    "#;
    let config: Config = toml::from_str(text).unwrap();
    config.check().unwrap();
    let policies = config.engine_settings().policies;
    let limit = policies.of_queue("orders.new");
    assert_eq!((limit.messages, limit.when_full), (10, WhenFull::Hold));
    assert_eq!(policies.of_topic("t").map(|limit| limit.bytes), Some(1024));
    for (wrong, part) in [("orders", "queue://"), ("queue://a..b", "empty part")] {
        let config = text.replace("topic://*", wrong);
        let error = toml::from_str::<Config>(&config).unwrap().check().unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(toml::from_str::<Config>(&text.replace("hold", "wait")).is_err());
}

#[test]
fn virtual_topics_are_switched_off_by_their_setting() {
    let known = |text: &str| {
        let config: Config = toml::from_str(text).unwrap();
        config.engine_settings().policies.virtual_topics
    };
    assert!(known("") && !known("virtual_topics = false"));
}

#[test]
fn a_value_out_of_its_range_is_named_with_what_it_may_be() {
    for (text, name) in [
        ("log.segment_size = \"5KiB\"", "log.segment_size"),
        ("log.disk_reserve = 0", "log.disk_reserve"),
        ("log.segment_size = \"129MiB\"", "log.disk_reserve"),
        ("log.checkpoint_bytes = 0", "log.checkpoint_bytes"),
        ("log.checkpoint_changes = 0", "log.checkpoint_changes"),
        ("log.checkpoint_seconds = 0", "log.checkpoint_seconds"),
        ("log.compaction_rate = 0", "log.compaction_rate"),
        ("memory.connection_window = 0", "memory.connection_window"),
        ("memory.index = 0", "memory.index"),
        ("memory.queue_window = 1", "memory.queue_window"),
        ("memory.limit = \"400MiB\"", "memory.limit"),
        ("memory.held_by_connection = 1", "memory.held_by_connection"),
        ("memory.when_full = \"drop-oldest\"", "memory.when_full"),
        ("log.when_disk_full = \"drop-oldest\"", "log.when_disk_full"),
        ("limits.held_messages = 0", "limits.held_messages"),
        ("destinations = [{ name = \"queue://a\", when_full = \"hold\" }]", "destinations"),
        ("limits.message = \"1025MiB\"", "limits.message"),
        ("limits.connections = 0", "limits.connections"),
        ("limits.queues = 0", "limits.queues"),
        ("duplicates.ids = 0", "duplicates.ids"),
        ("duplicates.hours = 0", "duplicates.hours"),
        ("duplicates.memory = 0", "duplicates.memory"),
        ("duplicates.producer_hours = 0", "duplicates.producer_hours"),
        ("duplicates.producer_memory = 0", "duplicates.producer_memory"),
        ("limits.topic_backlog = 0", "limits.topic_backlog"),
        ("stomp.prefetch = 32768", "stomp.prefetch"),
        ("stomp.connect_timeout = 0", "stomp.connect_timeout"),
        ("stomp.heart_beat_min = 0", "stomp.heart_beat_min"),
        ("listen = []", "listen"),
        ("metrics = \"9161\"", "metrics"),
        ("name = \"two\\nlines\"", "name"),
    ] {
        let config: Config = toml::from_str(text).expect(text);
        let error = config.check().expect_err(text).to_string();
        assert!(error.contains(&format!("the setting {name} is")), "{text}: {error}");
    }
}
