//! The table of structures: numbers, fields in the order of the wire, and the versions they are in.
//!
//! Owns the layout of every structure; readers and writers are made of it. Whether a field must be
//! there is no question of the layout: an `Option` can be absent, and whoever needs it asks. Types
//! 50 to 54 are of the store, 60, 61 and 65 of UDP, and 70 to 79 of nobody: none of them comes over
//! TCP, and all are refused.

use bytes::Bytes;

use super::kinds::{CommandHead, Field, Object};
use super::message::{Destination, Message};
#[cfg(test)]
use super::sample::Sampler;
use super::wire_format::Magic;
use super::{DecodeError, Reader, Secret, Text, Throwable, Writer};

choices! {
    /// Everything that can be a frame, or stand where anything may.
    #[allow(clippy::large_enum_variant, reason = "short-lived; the largest are boxed")]
    pub enum Structure {
        WireFormatInfo(WireFormatInfo),
        BrokerInfo(Box<BrokerInfo>),
        ConnectionInfo(Box<ConnectionInfo>),
        SessionInfo(SessionInfo),
        ConsumerInfo(Box<ConsumerInfo>),
        ProducerInfo(ProducerInfo),
        TransactionInfo(TransactionInfo),
        DestinationInfo(DestinationInfo),
        RemoveSubscriptionInfo(RemoveSubscriptionInfo),
        KeepAliveInfo(KeepAliveInfo),
        ShutdownInfo(ShutdownInfo),
        RemoveInfo(RemoveInfo),
        ControlCommand(ControlCommand),
        FlushCommand(FlushCommand),
        ConnectionError(ConnectionError),
        ConsumerControl(ConsumerControl),
        ConnectionControl(ConnectionControl),
        ProducerAck(ProducerAck),
        MessagePull(Box<MessagePull>),
        MessageDispatch(MessageDispatch),
        MessageAck(Box<MessageAck>),
        Message(Box<Message>),
        Response(Response),
        ExceptionResponse(ExceptionResponse),
        DataResponse(DataResponse),
        DataArrayResponse(DataArrayResponse),
        IntegerResponse(IntegerResponse),
        DiscoveryEvent(DiscoveryEvent),
        SubscriptionInfo(Box<SubscriptionInfo>),
        MessageDispatchNotification(MessageDispatchNotification),
        NetworkBridgeFilter(NetworkBridgeFilter),
        BrokerSubscriptionInfo(BrokerSubscriptionInfo),
        Destination(Destination),
        MessageId(MessageId),
        LocalTransactionId(LocalTransactionId),
        XaTransactionId(XaTransactionId),
        ConnectionId(ConnectionId),
        SessionId(SessionId),
        ConsumerId(ConsumerId),
        ProducerId(ProducerId),
        BrokerId(BrokerId),
    }

    /// The id of a transaction.
    pub enum TransactionId {
        Local(LocalTransactionId),
        Xa(XaTransactionId),
    }

    /// The id of what a [`RemoveInfo`] removes.
    pub enum RemovedId {
        Connection(ConnectionId),
        Session(SessionId),
        Consumer(ConsumerId),
        Producer(ProducerId),
    }
}

structures! {
    /// The id of a connection, which its client has made up. It may hold colons.
    #[derive(Hash)]
    data ConnectionId = 120 {
        value: Option<Text>;
    }

    /// The id of a session.
    #[derive(Hash)]
    data SessionId = 121 {
        connection_id: Option<Text>;
        /// -1 is the session that every connection has without opening it.
        value: i64;
    }

    /// The id of a consumer.
    #[derive(Hash)]
    data ConsumerId = 122 {
        connection_id: Option<Text>;
        session_id: i64;
        value: i64;
    }

    /// The id of a producer. Session and value stand in another order than a consumer's.
    #[derive(Hash)]
    data ProducerId = 123 {
        connection_id: Option<Text>;
        value: i64;
        session_id: i64;
    }

    /// The id of a broker.
    #[derive(Hash)]
    data BrokerId = 124 {
        value: Option<Text>;
    }

    /// The id of a message. Producer and its sequence make it; the rest does not count.
    data MessageId = 110 {
        /// The id that another protocol gave it.
        text_view: Option<Text>, since 10;
        producer_id [cached]: Option<ProducerId>;
        producer_sequence_id: i64;
        /// 0 from a producer. Consumers name the last they have seen by it when they go.
        broker_sequence_id: i64;
    }

    /// The id of a transaction of one connection.
    data LocalTransactionId = 111 {
        value: i64;
        connection_id [cached]: Option<ConnectionId>;
    }

    /// The id of a branch of a global transaction.
    #[derive(Hash)]
    data XaTransactionId = 112 {
        format_id: i32;
        global_transaction_id: Option<Bytes>;
        branch_qualifier: Option<Bytes>;
    }

    /// The first frame of each side.
    data WireFormatInfo = 1 {
        magic: Magic;
        /// The newest version that the sender speaks.
        version: i32;
        /// A primitive map; see [`WireFormat`](super::WireFormat).
        marshalled_properties: Option<Bytes>;
    }

    /// The broker's greeting, or that of a bridge.
    command BrokerInfo = 2 {
        broker_id [cached]: Option<BrokerId>;
        broker_url: Option<Text>;
        peer_broker_infos: Option<Vec<Option<BrokerInfo>>>;
        broker_name: Option<Text>;
        slave_broker: bool;
        master_broker: bool;
        /// Makes Java clients acknowledge message by message.
        fault_tolerant_configuration: bool;
        duplex_connection: bool, since 2;
        network_connection: bool, since 2;
        connection_id: i64, since 2;
        broker_upload_url: Option<Text>, since 3;
        /// A Java properties file with the settings of the bridge.
        network_properties: Option<Text>, since 3;
    }

    /// Who connects.
    command ConnectionInfo = 3 {
        connection_id [cached]: Option<ConnectionId>;
        client_id: Option<Text>;
        password: Option<Secret>;
        user_name: Option<Text>;
        broker_path: Option<Vec<Option<BrokerId>>>;
        broker_master_connector: bool;
        /// The broker may send [`ConnectionControl`] and [`ConsumerControl`].
        manageable: bool;
        client_master: bool, since 2;
        /// The client runs over a failover transport.
        fault_tolerant: bool, since 6;
        /// The client comes back, and tells what it had.
        failover_reconnect: bool, since 6;
        client_ip: Option<Text>, since 8;
    }

    /// Opens a session.
    command SessionInfo = 4 {
        session_id [cached]: Option<SessionId>;
    }

    /// Subscribes.
    command ConsumerInfo = 5 {
        consumer_id [cached]: Option<ConsumerId>;
        browser: bool;
        destination [cached]: Option<Destination>;
        /// Messages that it may hold without an acknowledgement; 0 asks for each.
        prefetch_size: i32;
        maximum_pending_message_limit: i32;
        dispatch_async: bool;
        selector: Option<Text>;
        client_id: Option<Text>, since 10;
        /// Makes a subscription to a topic durable.
        subscription_name: Option<Text>;
        no_local: bool;
        exclusive: bool;
        retroactive: bool;
        /// A higher one is served first; 0 is usual, a bridge has -5.
        priority: i8;
        broker_path: Option<Vec<Option<BrokerId>>>;
        additional_predicate: Option<NetworkBridgeFilter>;
        network_subscription: bool;
        optimized_acknowledge: bool;
        no_range_acks: bool;
        network_consumer_path: Option<Vec<Option<ConsumerId>>>, since 4;
    }

    /// Announces a producer.
    command ProducerInfo = 6 {
        producer_id [cached]: Option<ProducerId>;
        /// Absent where each message says where it goes.
        destination [cached]: Option<Destination>;
        broker_path: Option<Vec<Option<BrokerId>>>;
        dispatch_async: bool, since 2;
        /// Bytes that may be on their way without a [`ProducerAck`]; 0 is no limit.
        window_size: i32, since 3;
    }

    /// A step in a transaction's life; see [`TransactionVerb`].
    command TransactionInfo = 7 {
        connection_id [cached]: Option<ConnectionId>;
        /// Absent where all are asked for.
        transaction_id [cached]: Option<TransactionId>;
        verb: i8;
    }

    /// Adds or removes a destination.
    command DestinationInfo = 8 {
        connection_id [cached]: Option<ConnectionId>;
        destination [cached]: Option<Destination>;
        /// 0 adds, 1 removes.
        operation_type: i8;
        /// Milliseconds; 0 fails where there are subscribers.
        timeout: i64;
        broker_path: Option<Vec<Option<BrokerId>>>;
    }

    /// Ends a durable subscription.
    command RemoveSubscriptionInfo = 9 {
        connection_id [cached]: Option<ConnectionId>;
        subscription_name: Option<Text>;
        client_id: Option<Text>;
    }

    /// Says that the sender is alive.
    command KeepAliveInfo = 10 {}

    /// Says goodbye.
    command ShutdownInfo = 11 {}

    /// Ends a connection, a session, a consumer or a producer.
    command RemoveInfo = 12 {
        object_id [cached]: Option<RemovedId>;
        /// The broker's sequence id of the last message that the application got; -1 is none, -2
        /// not known.
        last_delivered_sequence_id: i64, since 5 or -2;
    }

    /// A word to the other side, which ignores it.
    command ControlCommand = 14 {
        command: Option<Text>;
    }

    /// Nothing.
    command FlushCommand = 15 {}

    /// A command failed that wanted no answer.
    command ConnectionError = 16 {
        exception: Option<Throwable>;
        connection_id: Option<ConnectionId>;
    }

    /// Changes a consumer, from either side.
    command ConsumerControl = 17 {
        destination: Option<Destination>, since 6;
        close: bool;
        consumer_id: Option<ConsumerId>;
        prefetch: i32;
        flush: bool, since 2;
        start: bool, since 2;
        stop: bool, since 2;
    }

    /// Tells a client about the brokers that it may go to.
    command ConnectionControl = 18 {
        close: bool;
        exit: bool;
        fault_tolerant: bool;
        resume: bool;
        suspend: bool;
        /// Addresses with commas between; empty rather than absent.
        connected_brokers: Option<Text>, since 6;
        /// The address to go to; empty rather than absent.
        reconnect_to: Option<Text>, since 6;
        rebalance_connection: bool, since 6;
        token: Option<Bytes>, since 8;
    }

    /// Gives a producer some of its window back. There is none before version 3.
    command ProducerAck = 19 {
        producer_id: Option<ProducerId>, since 3;
        /// Bytes.
        size: i32, since 3;
    }

    /// Asks for one message. There is none before version 2.
    command MessagePull = 20 {
        consumer_id [cached]: Option<ConsumerId>, since 2;
        destination [cached]: Option<Destination>, since 2;
        /// Milliseconds; -1 does not wait, 0 waits for ever.
        timeout: i64, since 2;
        correlation_id: Option<Text>, since 3;
        message_id: Option<MessageId>, since 3;
    }

    /// Brings a consumer a message, or says that there is none.
    command MessageDispatch = 21 {
        consumer_id [cached]: Option<ConsumerId>;
        /// Absent only without a message.
        destination [cached]: Option<Destination>;
        message: Option<Box<Message>>;
        /// 0 with the first delivery.
        redelivery_counter: i32;
    }

    /// What a consumer has done with messages; see [`AckKind`].
    command MessageAck = 22 {
        destination [cached]: Option<Destination>;
        transaction_id [cached]: Option<TransactionId>;
        consumer_id [cached]: Option<ConsumerId>;
        kind: i8;
        /// Absent where it begins with the first that was dispatched.
        first_message_id: Option<MessageId>;
        last_message_id: Option<MessageId>;
        message_count: i32;
        poison_cause: Option<Throwable>, since 7;
    }

    /// The fields of a message before its body.
    part MessageHead {
        /// The number by which an answer names it; kept when it is dispatched.
        command_id: i32;
        /// Whether the sender waits for an answer; means nothing when it is dispatched.
        response_required: bool;
        /// Who sends it on this hop: a bridge puts itself here.
        producer_id [cached]: Option<ProducerId>;
        destination [cached]: Option<Destination>;
        transaction_id [cached]: Option<TransactionId>;
        original_destination [cached]: Option<Destination>;
        message_id: Option<MessageId>;
        original_transaction_id [cached]: Option<TransactionId>;
        group_id: Option<Text>;
        group_sequence: i32;
        correlation_id: Option<Text>;
        persistent: bool;
        /// Milliseconds since 1970; 0 is never.
        expiration: i64;
        priority: i8;
        reply_to: Option<Destination>;
        /// Milliseconds since 1970.
        timestamp: i64;
        jms_type: Option<Text>;
    }

    /// The fields of a message behind its body.
    part MessageTail {
        /// A primitive map.
        marshalled_properties: Option<Bytes>;
        /// What an advisory is about.
        data_structure: Option<Box<Structure>>;
        /// The only consumer that may have it.
        target_consumer_id [cached]: Option<ConsumerId>;
        compressed: bool;
        redelivery_counter: i32;
        broker_path: Option<Vec<Option<BrokerId>>>;
        arrival: i64;
        user_id: Option<Text>;
        recieved_by_df_bridge: bool;
        droppable: bool, since 2;
        cluster: Option<Vec<Option<BrokerId>>>, since 3;
        broker_in_time: i64, since 3;
        broker_out_time: i64, since 3;
        jmsx_group_first_for_consumer: bool, since 10;
    }

    /// What a blob message has behind everything else. There is none before version 3.
    part BlobSource {
        remote_blob_url: Option<Text>, since 3;
        mime_type: Option<Text>, since 3;
        deleted_by_broker: bool, since 3;
    }

    /// Yes.
    command Response = 30 {
        /// The number of the command that is answered, here and in every answer.
        correlation_id: i32;
    }

    /// No.
    command ExceptionResponse = 31 {
        correlation_id: i32;
        exception: Option<Throwable>;
    }

    /// Yes, and something with it.
    command DataResponse = 32 {
        correlation_id: i32;
        data: Option<Box<Structure>>;
    }

    /// Yes, and some things with it: the branches that wait for their outcome.
    command DataArrayResponse = 33 {
        correlation_id: i32;
        data: Option<Vec<Option<Structure>>>;
    }

    /// Yes, and a number with it: a vote.
    command IntegerResponse = 34 {
        correlation_id: i32;
        result: i32;
    }

    /// A broker was found; not over TCP.
    data DiscoveryEvent = 40 {
        service_name: Option<Text>;
        broker_name: Option<Text>;
    }

    /// A durable subscription as stores have it.
    data SubscriptionInfo = 55 {
        client_id: Option<Text>;
        destination [cached]: Option<Destination>;
        selector: Option<Text>;
        subscription_name: Option<Text>;
        subscribed_destination: Option<Destination>, since 3;
        no_local: bool, since 11;
    }

    /// A message was dispatched; of an arrangement of brokers that is no more.
    command MessageDispatchNotification = 90 {
        consumer_id [cached]: Option<ConsumerId>;
        destination [cached]: Option<Destination>;
        delivery_sequence_id: i64;
        message_id: Option<MessageId>;
    }

    /// How far messages and demand go over bridges.
    data NetworkBridgeFilter = 91 {
        /// Both of the later two.
        network_ttl: i32, until 9;
        network_broker_id [cached]: Option<BrokerId>;
        message_ttl: i32, since 10;
        consumer_ttl: i32, since 10;
    }

    /// The durable subscriptions of a broker, for a bridge. There is none before version 12.
    command BrokerSubscriptionInfo = 92 {
        broker_id: Option<BrokerId>, since 12;
        broker_name: Option<Text>, since 12;
        subscription_infos: Option<Vec<Option<ConsumerInfo>>>, since 12;
    }
}

numbers! {
    /// What [`TransactionInfo`] asks for.
    pub enum TransactionVerb: i8 {
        /// Begins a local transaction, or associates a branch. Wants no answer.
        Begin = 0,
        /// Asks for the vote: [`IntegerResponse`].
        Prepare = 1,
        /// Commits a local transaction, or a branch without a vote.
        CommitOnePhase = 2,
        /// Commits a branch that has voted.
        CommitTwoPhase = 3,
        /// Rolls back.
        Rollback = 4,
        /// Asks which branches wait for their outcome: [`DataArrayResponse`].
        Recover = 5,
        /// Forgets a branch that was completed by someone else.
        Forget = 6,
        /// Ends the association with a branch.
        End = 7,
    }

    /// What [`MessageAck`] says of its messages.
    pub enum AckKind: i8 {
        /// The application has them; more may come.
        Delivered = 0,
        /// The client gives up on them.
        Poison = 1,
        /// They are done with.
        Standard = 2,
        /// The client will deliver them again by itself.
        Redelivered = 3,
        /// The last one alone is done with.
        Individual = 4,
        /// A durable subscription does not want them; only inside brokers.
        Unmatched = 5,
        /// The client found them expired.
        Expired = 6,
    }
}
