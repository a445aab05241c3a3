//! The table of structures against a listing made apart from it.

use super::super::table::*;

/// The same but for case: the names of the wire are Java's.
fn plain(name: &str) -> String {
    name.replace('_', "").to_lowercase()
}

#[test]
fn the_table_has_the_fields_of_the_protocol_in_their_order_and_versions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/openwire/fields.txt");
    let listing = std::fs::read_to_string(path).unwrap();
    let mut found = 0;
    for line in listing.lines() {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let name = words.next().unwrap();
        let expected: Vec<(String, u8)> = words
            .map(|word| word.split_once('@').unwrap())
            .map(|(field, since)| (plain(field), since.parse().unwrap()))
            .collect();
        let fields = fields_of(name).into_iter().map(|(field, since, until)| {
            assert_eq!(until, u8::MAX, "{name} {field}");
            (renamed(name, field), since)
        });
        assert_eq!(fields.collect::<Vec<_>>(), expected, "{name}");
        found += 1;
    }
    assert_eq!(found, 40);
}

/// Where a name of the wire says too little, or is a word of Rust.
fn renamed(structure: &str, field: &str) -> String {
    let name = match (structure, field) {
        ("TransactionInfo", "verb") | ("Message", "jms_type") => "type",
        ("MessageAck", "kind") => "ackType",
        (_, field) => field,
    };
    plain(name)
}

fn fields_of(structure: &str) -> Vec<(&'static str, u8, u8)> {
    macro_rules! fields {
        ($($name:ident),+) => {
            match structure {
                "Message" => {
                    [MessageHead::FIELDS, &[("content", 1, u8::MAX)], MessageTail::FIELDS].concat()
                }
                "Destination" => vec![("physical_name", 1, u8::MAX)],
                $(name if name.eq_ignore_ascii_case(stringify!($name)) => $name::FIELDS.to_vec(),)+
                other => panic!("{other}"),
            }
        };
    }
    fields!(
        WireFormatInfo,
        BrokerInfo,
        ConnectionInfo,
        SessionInfo,
        ConsumerInfo,
        ProducerInfo,
        TransactionInfo,
        DestinationInfo,
        RemoveSubscriptionInfo,
        KeepAliveInfo,
        ShutdownInfo,
        RemoveInfo,
        ControlCommand,
        FlushCommand,
        ConnectionError,
        ConsumerControl,
        ConnectionControl,
        ProducerAck,
        MessagePull,
        MessageDispatch,
        MessageAck,
        Response,
        ExceptionResponse,
        DataResponse,
        DataArrayResponse,
        IntegerResponse,
        DiscoveryEvent,
        SubscriptionInfo,
        MessageDispatchNotification,
        BrokerSubscriptionInfo,
        MessageId,
        LocalTransactionId,
        XaTransactionId,
        ConnectionId,
        SessionId,
        ConsumerId,
        ProducerId,
        BrokerId
    )
}

#[test]
fn bridge_filters_have_one_limit_before_version_10_and_two_after() {
    let expected = [("network_ttl", 1, 9), ("network_broker_id", 1, 255), ("message_ttl", 10, 255)];
    assert_eq!(NetworkBridgeFilter::FIELDS[..3], expected);
    assert_eq!(NetworkBridgeFilter::FIELDS[3], ("consumer_ttl", 10, 255));
}

#[test]
fn what_blob_messages_have_more_stands_in_its_order() {
    let expected =
        [("remote_blob_url", 3, 255), ("mime_type", 3, 255), ("deleted_by_broker", 3, 255)];
    assert_eq!(BlobSource::FIELDS, expected);
}
