import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import javax.jms.BytesMessage;
import javax.jms.Connection;
import javax.jms.DeliveryMode;
import javax.jms.JMSException;
import javax.jms.MapMessage;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.ObjectMessage;
import javax.jms.Session;
import javax.jms.StreamMessage;
import javax.jms.TextMessage;

/** What is sent arrives: bodies of every type, properties and headers. */
final class Messages {
    private static final String COMPRESSED = "jms.useCompression=true";
    private static final String LONG = "a text that is worth its compression, ".repeat(1_000);

    /** One queue, and both of its ends. */
    private static final class Pipe {
        final Session session;
        final MessageProducer producer;
        final MessageConsumer consumer;

        Pipe(Stage stage, String options) throws JMSException {
            Connection connection = stage.connect(options);
            session = connection.createSession(false, Session.AUTO_ACKNOWLEDGE);
            producer = session.createProducer(stage.queue("q"));
            consumer = session.createConsumer(stage.queue("q"));
        }

        Message through(Message message) throws JMSException {
            producer.send(message);
            return Stage.next(consumer);
        }
    }

    static void texts_arrive(Stage stage) throws JMSException {
        texts(new Pipe(stage, ""));
    }

    static void compressed_texts_arrive(Stage stage) throws JMSException {
        texts(new Pipe(stage, COMPRESSED));
    }

    private static void texts(Pipe pipe) throws JMSException {
        String wide = "g\u00fcnstig \u20ac \u6f22\u5b57";
        String[] all = {"plain", "", null, wide, "\ud83d\ude00", "a\u0000b", LONG};
        for (String text : all) {
            Message message = pipe.through(pipe.session.createTextMessage(text));
            Stage.expect(text, ((TextMessage) message).getText());
        }
    }

    static void bytes_arrive(Stage stage) throws JMSException {
        bytes(new Pipe(stage, ""));
    }

    static void compressed_bytes_arrive(Stage stage) throws JMSException {
        bytes(new Pipe(stage, COMPRESSED));
    }

    private static void bytes(Pipe pipe) throws JMSException {
        BytesMessage sent = pipe.session.createBytesMessage();
        sent.writeBoolean(true);
        sent.writeByte((byte) -1);
        sent.writeChar('\u20ac');
        sent.writeShort(Short.MIN_VALUE);
        sent.writeInt(Integer.MIN_VALUE);
        sent.writeLong(Long.MIN_VALUE);
        sent.writeFloat(1.5f);
        sent.writeDouble(Math.PI);
        sent.writeUTF("\ud83d\ude00");
        sent.writeBytes(new byte[] {0, 10, 13, -1});
        BytesMessage found = (BytesMessage) pipe.through(sent);
        Stage.expect(true, found.readBoolean());
        Stage.expect((byte) -1, found.readByte());
        Stage.expect('\u20ac', found.readChar());
        Stage.expect(Short.MIN_VALUE, found.readShort());
        Stage.expect(Integer.MIN_VALUE, found.readInt());
        Stage.expect(Long.MIN_VALUE, found.readLong());
        Stage.expect(1.5f, found.readFloat());
        Stage.expect(Math.PI, found.readDouble());
        Stage.expect("\ud83d\ude00", found.readUTF());
        byte[] rest = new byte[9];
        Stage.expect(4, found.readBytes(rest));
        Stage.expect("[0, 10, 13, -1]", Arrays.toString(Arrays.copyOf(rest, 4)));
        BytesMessage empty = (BytesMessage) pipe.through(pipe.session.createBytesMessage());
        Stage.expect(0L, empty.getBodyLength());
    }

    static void maps_arrive(Stage stage) throws JMSException {
        maps(new Pipe(stage, ""));
    }

    static void compressed_maps_arrive(Stage stage) throws JMSException {
        maps(new Pipe(stage, COMPRESSED));
    }

    private static void maps(Pipe pipe) throws JMSException {
        MapMessage sent = pipe.session.createMapMessage();
        sent.setBoolean("boolean", true);
        sent.setByte("byte", (byte) -1);
        sent.setChar("char", '\u20ac');
        sent.setShort("short", (short) 2);
        sent.setInt("int", 3);
        sent.setLong("long", Long.MAX_VALUE);
        sent.setFloat("float", 1.5f);
        sent.setDouble("double", Math.E);
        sent.setString("string", "\u20ac");
        sent.setString("large", LONG);
        sent.setBytes("bytes", new byte[] {1, 2, 3});
        sent.setObject("null", null);
        sent.setObject("nested", Map.of("list", List.of(1, 2L, "three")));
        MapMessage found = (MapMessage) pipe.through(sent);
        Stage.expect(13, Collections.list(found.getMapNames()).size());
        Stage.expect(true, found.getBoolean("boolean"));
        Stage.expect((byte) -1, found.getByte("byte"));
        Stage.expect('\u20ac', found.getChar("char"));
        Stage.expect((short) 2, found.getShort("short"));
        Stage.expect(3, found.getInt("int"));
        Stage.expect(Long.MAX_VALUE, found.getLong("long"));
        Stage.expect(1.5f, found.getFloat("float"));
        Stage.expect(Math.E, found.getDouble("double"));
        Stage.expect("\u20ac", found.getString("string"));
        Stage.expect(LONG, found.getString("large"));
        Stage.expect("[1, 2, 3]", Arrays.toString(found.getBytes("bytes")));
        Stage.check(found.itemExists("null") && found.getObject("null") == null, "the null");
        // Texts inside come as the client's own kind of text.
        Stage.expect("{list=[1, 2, three]}", String.valueOf(found.getObject("nested")));
        MapMessage empty = (MapMessage) pipe.through(pipe.session.createMapMessage());
        Stage.check(!empty.getMapNames().hasMoreElements(), "something in an empty map");
    }

    static void streams_arrive(Stage stage) throws JMSException {
        streams(new Pipe(stage, ""));
    }

    static void compressed_streams_arrive(Stage stage) throws JMSException {
        streams(new Pipe(stage, COMPRESSED));
    }

    private static void streams(Pipe pipe) throws JMSException {
        Object[] values = {true, (byte) 1, 'c', (short) 2, 3, 4L, 5.5f, 6.5, "seven", null, LONG};
        StreamMessage sent = pipe.session.createStreamMessage();
        for (Object value : values) {
            sent.writeObject(value);
        }
        sent.writeBytes(new byte[] {8, 9});
        StreamMessage found = (StreamMessage) pipe.through(sent);
        for (Object value : values) {
            Stage.expect(value, found.readObject());
        }
        Stage.expect("[8, 9]", Arrays.toString((byte[]) found.readObject()));
    }

    static void objects_arrive(Stage stage) throws JMSException {
        objects(new Pipe(stage, ""));
    }

    static void compressed_objects_arrive(Stage stage) throws JMSException {
        objects(new Pipe(stage, COMPRESSED));
    }

    private static void objects(Pipe pipe) throws JMSException {
        ArrayList<Object> object = new ArrayList<>(List.of("one", 2, LONG));
        Message message = pipe.through(pipe.session.createObjectMessage(object));
        Stage.expect(object, ((ObjectMessage) message).getObject());
        Message empty = pipe.through(pipe.session.createObjectMessage());
        Stage.expect(null, ((ObjectMessage) empty).getObject());
    }

    static void properties_arrive(Stage stage) throws JMSException {
        Pipe pipe = new Pipe(stage, "");
        Message sent = pipe.session.createMessage();
        sent.setBooleanProperty("aBoolean", true);
        sent.setByteProperty("aByte", (byte) -1);
        sent.setShortProperty("aShort", (short) 2);
        sent.setIntProperty("anInt", 3);
        sent.setLongProperty("aLong", Long.MIN_VALUE);
        sent.setFloatProperty("aFloat", 1.5f);
        sent.setDoubleProperty("aDouble", Math.PI);
        sent.setStringProperty("aString", "g\u00fcnstig \u20ac");
        sent.setStringProperty("aLongString", LONG);
        sent.setStringProperty("empty", "");
        sent.setObjectProperty("null", null);
        sent.setObjectProperty("aMap", Map.of("a", 1));
        sent.setObjectProperty("aList", List.of(1, 2));
        Message found = pipe.through(sent);
        Stage.expect(true, found.getObjectProperty("aBoolean"));
        Stage.expect((byte) -1, found.getObjectProperty("aByte"));
        Stage.expect((short) 2, found.getObjectProperty("aShort"));
        Stage.expect(3, found.getObjectProperty("anInt"));
        Stage.expect(Long.MIN_VALUE, found.getObjectProperty("aLong"));
        Stage.expect(1.5f, found.getObjectProperty("aFloat"));
        Stage.expect(Math.PI, found.getObjectProperty("aDouble"));
        Stage.expect("g\u00fcnstig \u20ac", found.getStringProperty("aString"));
        Stage.expect(LONG, found.getStringProperty("aLongString"));
        Stage.expect("", found.getStringProperty("empty"));
        Stage.check(found.propertyExists("null"), "the null");
        Stage.expect(Map.of("a", 1), found.getObjectProperty("aMap"));
        Stage.expect(List.of(1, 2), found.getObjectProperty("aList"));
    }

    static void headers_arrive(Stage stage) throws JMSException {
        Pipe pipe = new Pipe(stage, "");
        Message sent = pipe.session.createTextMessage("body");
        sent.setJMSCorrelationID("correlation");
        sent.setJMSType("type");
        sent.setJMSReplyTo(stage.topic("replies"));
        sent.setStringProperty("JMSXGroupID", "group");
        sent.setIntProperty("JMSXGroupSeq", 7);
        long before = System.currentTimeMillis();
        pipe.producer.send(sent, DeliveryMode.NON_PERSISTENT, 6, 60_000);
        Message found = Stage.next(pipe.consumer);
        Stage.expect("correlation", found.getJMSCorrelationID());
        Stage.expect("type", found.getJMSType());
        Stage.expect(stage.topic("replies"), found.getJMSReplyTo());
        Stage.expect("group", found.getStringProperty("JMSXGroupID"));
        Stage.expect(7, found.getIntProperty("JMSXGroupSeq"));
        Stage.expect(stage.queue("q"), found.getJMSDestination());
        Stage.expect(DeliveryMode.NON_PERSISTENT, found.getJMSDeliveryMode());
        Stage.expect(6, found.getJMSPriority());
        Stage.expect(false, found.getJMSRedelivered());
        Stage.expect(1, found.getIntProperty("JMSXDeliveryCount"));
        Stage.expect(sent.getJMSMessageID(), found.getJMSMessageID());
        long age = found.getJMSTimestamp() - before;
        Stage.check(age >= 0 && age < Stage.PATIENCE, "timestamp " + age);
        Stage.expect(60_000L, found.getJMSExpiration() - found.getJMSTimestamp());
        Message persistent = pipe.through(pipe.session.createTextMessage("body"));
        Stage.expect(DeliveryMode.PERSISTENT, persistent.getJMSDeliveryMode());
        Stage.expect(0L, persistent.getJMSExpiration());
    }

    static void ten_megabytes_arrive(Stage stage) throws JMSException {
        Pipe pipe = new Pipe(stage, "");
        byte[] body = new byte[10_000_000];
        new Random(7).nextBytes(body);
        for (int mode : new int[] {DeliveryMode.PERSISTENT, DeliveryMode.NON_PERSISTENT}) {
            BytesMessage sent = pipe.session.createBytesMessage();
            sent.setStringProperty("size", "large");
            sent.writeBytes(body);
            pipe.producer.send(sent, mode, 4, 0);
            pipe.producer.send(pipe.session.createTextMessage("small"), mode, 4, 0);
            BytesMessage found = (BytesMessage) Stage.next(pipe.consumer);
            byte[] arrived = new byte[(int) found.getBodyLength()];
            found.readBytes(arrived);
            Stage.check(Arrays.equals(body, arrived), "another body");
            Stage.expect("large", found.getStringProperty("size"));
            Stage.expectTexts(pipe.consumer, "small");
        }
    }
}
