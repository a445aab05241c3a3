import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.jms.DeliveryMode;
import javax.jms.InvalidSelectorException;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.MessageProducer;
import javax.jms.QueueBrowser;
import javax.jms.Session;
import javax.jms.TextMessage;
import org.apache.activemq.command.ActiveMQQueue;
import org.apache.activemq.command.ActiveMQTopic;

/** Which message goes to which consumer: priorities, selectors, browsers, groups, names of many. */
final class Choosing {
    static void the_higher_priority_comes_first(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(stage.queue("q"));
        int[] priorities = {4, 1, 9, 4, 0, 7};
        for (int i = 0; i < priorities.length; i++) {
            Message message = session.createTextMessage(priorities[i] + "-" + i);
            producer.send(message, DeliveryMode.PERSISTENT, priorities[i], 0);
        }
        Session second = stage.session(Session.AUTO_ACKNOWLEDGE);
        Stage.expectTexts(second.createConsumer(stage.queue("q")),
            "9-2", "7-5", "4-0", "4-3", "1-1", "0-4");
    }

    static void a_selector_chooses(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        // Each selector, and which of three messages it takes: `amount` 10, 20, none.
        Map<String, String> table = new HashMap<>();
        table.put("amount = 10", "0");
        table.put("amount <> 10", "1");
        table.put("amount > 5 AND amount < 15.5", "0");
        table.put("NOT (amount > 15)", "0");
        table.put("amount IS NULL", "2");
        table.put("amount IS NOT NULL", "01");
        table.put("amount BETWEEN 10 AND 20", "01");
        table.put("amount * 2 + 1 = 41", "1");
        table.put("currency IN ('EUR', 'CHF')", "02");
        table.put("currency NOT IN ('EUR', 'CHF')", "1");
        table.put("currency LIKE 'U%'", "1");
        table.put("currency NOT LIKE '_U_'", "12");
        table.put("note LIKE '50!%%' ESCAPE '!'", "0");
        table.put("note = 'it''s'", "1");
        table.put("urgent", "1");
        table.put("urgent = TRUE OR amount = 10", "01");
        table.put("JMSPriority > 5", "2");
        table.put("JMSType = 'transfer' AND JMSCorrelationID = 'c0'", "0");
        table.put("JMSDeliveryMode = 'NON_PERSISTENT'", "2");
        Map<String, MessageConsumer> consumers = new HashMap<>();
        for (String selector : table.keySet()) {
            consumers.put(selector, session.createConsumer(stage.topic("t"), selector));
        }
        sendThree(session, session.createProducer(stage.topic("t")));
        MessageConsumer everything = session.createConsumer(stage.topic("t"));
        session.createProducer(stage.topic("t")).send(session.createTextMessage("end"));
        Stage.expectTexts(everything, "end");
        for (Map.Entry<String, String> row : table.entrySet()) {
            StringBuilder taken = new StringBuilder();
            // What came before the end lies at the client by now.
            for (Message next; (next = consumers.get(row.getKey()).receiveNoWait()) != null;) {
                taken.append(Stage.text(next).replace("end", ""));
            }
            Stage.expect(row.getKey() + ": " + row.getValue(), row.getKey() + ": " + taken);
        }
    }

    private static void sendThree(Session session, MessageProducer producer) throws JMSException {
        Message first = session.createTextMessage("0");
        first.setIntProperty("amount", 10);
        first.setStringProperty("currency", "EUR");
        first.setStringProperty("note", "50% off");
        first.setJMSType("transfer");
        first.setJMSCorrelationID("c0");
        producer.send(first);
        Message second = session.createTextMessage("1");
        second.setDoubleProperty("amount", 20.0);
        second.setStringProperty("currency", "USD");
        second.setStringProperty("note", "it's");
        second.setBooleanProperty("urgent", true);
        producer.send(second);
        Message third = session.createTextMessage("2");
        third.setStringProperty("currency", "CHF");
        producer.send(third, DeliveryMode.NON_PERSISTENT, 8, 0);
    }

    static void a_selector_reaches_deep_into_a_queue(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE, "jms.useAsyncSend=true");
        MessageProducer producer = session.createProducer(stage.queue("q"));
        for (int i = 0; i < 3_000; i++) {
            Message message = session.createTextMessage("m" + i);
            message.setIntProperty("number", i);
            producer.send(message);
        }
        MessageConsumer last = session.createConsumer(stage.queue("q"), "number = 2999");
        Stage.expectTexts(last, "m2999");
        MessageConsumer other = session.createConsumer(stage.queue("q"), "number = 1500");
        Stage.expectTexts(other, "m1500");
        Stage.expectTexts(session.createConsumer(stage.queue("q")), "m0");
    }

    static void a_selector_that_is_none_is_refused(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        Stage.fails(InvalidSelectorException.class,
            () -> session.createConsumer(stage.queue("q"), "amount >"));
        stage.send(stage.queue("q"), "still connected");
        Stage.expectTexts(session.createConsumer(stage.queue("q")), "still connected");
    }

    static void a_browser_takes_nothing(Stage stage) throws JMSException {
        String[] texts = Acknowledging.numbered(1_200);
        stage.send(stage.queue("q"), texts);
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        Stage.expect(List.of(texts), browse(session.createBrowser(stage.queue("q"))));
        Stage.expect(List.of(texts), browse(session.createBrowser(stage.queue("q"))));
        Stage.expectTexts(session.createConsumer(stage.queue("q")), texts);
        Stage.expect(List.of(), browse(session.createBrowser(stage.queue("q"))));
    }

    static void a_browser_chooses(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        sendThree(session, session.createProducer(stage.queue("q")));
        String selector = "currency <> 'USD'";
        List<String> seen = browse(session.createBrowser(stage.queue("q"), selector));
        Collections.sort(seen);
        Stage.expect(List.of("0", "2"), seen);
    }

    static void a_browser_looks_at_many(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        stage.send(stage.queue("b.2"), "second");
        stage.send(stage.queue("b.1"), "first");
        stage.send(stage.queue("c"), "third");
        Stage.expect(List.of("first", "second"), browse(session.createBrowser(stage.queue("b.>"))));
        ActiveMQQueue both = new ActiveMQQueue(stage.named("c") + "," + stage.named("b.*"));
        Stage.expect(List.of("third", "first", "second"), browse(session.createBrowser(both)));
        Stage.expectTexts(session.createConsumer(stage.queue("b.1")), "first");
    }

    private static List<String> browse(QueueBrowser browser) throws JMSException {
        List<String> texts = new ArrayList<>();
        for (var all = browser.getEnumeration(); all.hasMoreElements();) {
            texts.add(((TextMessage) all.nextElement()).getText());
        }
        browser.close();
        return texts;
    }

    static void an_exclusive_consumer_gets_all(Stage stage) throws JMSException {
        ActiveMQQueue exclusive = new ActiveMQQueue(stage.named("q") + "?consumer.exclusive=true");
        Session one = stage.session(Session.AUTO_ACKNOWLEDGE);
        Session two = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer first = one.createConsumer(exclusive);
        MessageConsumer second = two.createConsumer(exclusive);
        stage.send(stage.queue("q"), "a", "b", "c");
        Stage.expectTexts(first, "a", "b", "c");
        first.close();
        stage.send(stage.queue("q"), "d", "e");
        Stage.expectTexts(second, "d", "e");
    }

    static void the_consumer_of_higher_priority_goes_first(Stage stage) throws JMSException {
        ActiveMQQueue higher = new ActiveMQQueue(stage.named("q") + "?consumer.priority=5");
        Session one = stage.session(Session.AUTO_ACKNOWLEDGE);
        Session two = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer low = one.createConsumer(stage.queue("q"));
        MessageConsumer high = two.createConsumer(higher);
        stage.send(stage.queue("q"), "a", "b", "c");
        Stage.expectTexts(high, "a", "b", "c");
        high.close();
        stage.send(stage.queue("q"), "d");
        Stage.expectTexts(low, "d");
    }

    static void a_group_stays_with_one_consumer(Stage stage) throws JMSException {
        MessageConsumer[] consumers = new MessageConsumer[2];
        for (int i = 0; i < 2; i++) {
            Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
            consumers[i] = session.createConsumer(stage.queue("q"));
        }
        String[] groups = {"red", "green", "blue", "white"};
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(stage.queue("q"));
        for (int i = 0; i < 40; i++) {
            Message message = session.createTextMessage("m" + i);
            message.setStringProperty("JMSXGroupID", groups[i % groups.length]);
            producer.send(message);
        }
        Map<String, Set<Integer>> owners = new HashMap<>();
        List<String> firsts = new ArrayList<>();
        for (int left = 40; left > 0;) {
            for (int i = 0; i < 2; i++) {
                Message message = consumers[i].receive(20);
                if (message == null) {
                    continue;
                }
                left--;
                String group = message.getStringProperty("JMSXGroupID");
                owners.computeIfAbsent(group, key -> new HashSet<>()).add(i);
                if (message.propertyExists("JMSXGroupFirstForConsumer")
                    && message.getBooleanProperty("JMSXGroupFirstForConsumer")) {
                    firsts.add(group);
                }
            }
        }
        owners.forEach((group, owner) -> Stage.expect(group + " 1", group + " " + owner.size()));
        Collections.sort(firsts);
        Stage.expect(List.of("blue", "green", "red", "white"), firsts);
        Set<Integer> used = new HashSet<>();
        owners.values().forEach(used::addAll);
        Stage.expect(2, used.size());
    }

    static void a_group_moves_when_its_consumer_goes(Stage stage) throws JMSException {
        Session one = stage.session(Session.AUTO_ACKNOWLEDGE);
        Session two = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer first = one.createConsumer(stage.queue("q"));
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(stage.queue("q"));
        Message message = session.createTextMessage("a");
        message.setStringProperty("JMSXGroupID", "red");
        producer.send(message);
        Stage.expectTexts(first, "a");
        MessageConsumer second = two.createConsumer(stage.queue("q"));
        first.close();
        producer.send(message);
        Stage.expectTexts(second, "a");
    }

    static void a_group_ends_when_its_producer_says_so(Stage stage) throws JMSException {
        MessageConsumer[] consumers = new MessageConsumer[2];
        for (int i = 0; i < 2; i++) {
            Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
            consumers[i] = session.createConsumer(stage.queue("q"));
        }
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageProducer producer = session.createProducer(stage.queue("q"));
        int[] numbers = {1, 2, -1, 1};
        for (int number : numbers) {
            Message message = session.createTextMessage("m");
            message.setStringProperty("JMSXGroupID", "red");
            message.setIntProperty("JMSXGroupSeq", number);
            producer.send(message);
        }
        List<Integer> firsts = new ArrayList<>();
        for (int left = numbers.length; left > 0;) {
            for (MessageConsumer consumer : consumers) {
                Message message = consumer.receive(20);
                if (message == null) {
                    continue;
                }
                left--;
                if (message.propertyExists("JMSXGroupFirstForConsumer")
                    && message.getBooleanProperty("JMSXGroupFirstForConsumer")) {
                    firsts.add(message.getIntProperty("JMSXGroupSeq"));
                }
            }
        }
        Stage.expect(List.of(1, 1), firsts);
    }

    static void what_an_exclusive_consumer_held_goes_to_the_next(Stage stage) throws JMSException {
        ActiveMQQueue exclusive = new ActiveMQQueue(stage.named("q") + "?consumer.exclusive=true");
        Session one = stage.session(Session.CLIENT_ACKNOWLEDGE);
        Session two = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer first = one.createConsumer(exclusive);
        MessageConsumer second = two.createConsumer(exclusive);
        stage.send(stage.queue("q"), "a", "b", "c", "d");
        Stage.next(first).acknowledge();
        Stage.expectTexts(first, "b", "c");
        one.close();
        Stage.expectTexts(second, "b", "c", "d");
        Stage.expect(List.of(), stage.drain(stage.queue("q")));
    }

    static void a_pull_from_a_wildcard_finds_what_is_there(Stage stage) throws JMSException {
        stage.send(stage.queue("x.1"), "before");
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        String names = stage.named("x.*") + "?consumer.prefetchSize=0";
        MessageConsumer puller = session.createConsumer(new ActiveMQQueue(names));
        Stage.expectTexts(puller, "before");
        Stage.expect(null, puller.receiveNoWait());
        stage.send(stage.queue("x.2"), "later");
        Stage.expectTexts(puller, "later");
    }

    static void a_composite_name_reaches_all(Stage stage) throws JMSException {
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer onTopic = session.createConsumer(stage.topic("t"));
        String names = stage.named("a") + "," + stage.named("b") + ",topic://" + stage.named("t");
        stage.send(new ActiveMQQueue(names), "for all");
        Stage.expectTexts(onTopic, "for all");
        Stage.expect(List.of("for all"), stage.drain(stage.queue("a")));
        Stage.expect(List.of("for all"), stage.drain(stage.queue("b")));
    }

    static void a_composite_consumer_hears_of_all(Stage stage) throws JMSException {
        Session session = stage.session(Session.CLIENT_ACKNOWLEDGE);
        String names = stage.named("a") + "," + stage.named("b");
        MessageConsumer both = session.createConsumer(new ActiveMQQueue(names));
        stage.send(stage.queue("a"), "from a");
        Message fromA = Stage.next(both);
        Stage.expect(stage.queue("a"), fromA.getJMSDestination());
        fromA.acknowledge();
        stage.send(stage.queue("b"), "from b");
        Message fromB = Stage.next(both);
        Stage.expect(stage.queue("b"), fromB.getJMSDestination());
        fromB.acknowledge();
        session.close();
        Stage.expect(List.of(), stage.drain(stage.queue("a")));
        Stage.expect(List.of(), stage.drain(stage.queue("b")));
    }

    static void a_wildcard_consumer_hears_of_all(Stage stage) throws JMSException {
        stage.send(stage.queue("x.1"), "before");
        Session session = stage.session(Session.AUTO_ACKNOWLEDGE);
        MessageConsumer star = session.createConsumer(new ActiveMQQueue(stage.named("x.*")));
        MessageConsumer rest = session.createConsumer(new ActiveMQTopic(stage.named("y.>")));
        Stage.expectTexts(star, "before");
        // A queue that was not there yet belongs to the wildcard as well.
        stage.send(stage.queue("x.2"), "later");
        stage.send(stage.queue("x.2.deep"), "deeper");
        stage.send(stage.queue("x.1"), "again");
        Stage.expectTexts(star, "later", "again");
        stage.send(stage.topic("y.1.2"), "topic");
        Stage.expectTexts(rest, "topic");
        Stage.expect(List.of("deeper"), stage.drain(stage.queue("x.2.deep")));
    }
}
