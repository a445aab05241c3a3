import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import javax.jms.JMSException;
import javax.jms.Message;
import javax.jms.MessageConsumer;
import javax.jms.TextMessage;
import javax.jms.XAConnection;
import javax.jms.XASession;
import javax.transaction.xa.XAException;
import javax.transaction.xa.XAResource;
import javax.transaction.xa.Xid;

/** Branches of distributed transactions, as a transaction manager drives them. */
final class Branches {
    /** The branch of a story: the story's name, and which of its branches. */
    record Branch(String name, String qualifier) implements Xid {
        Branch(Stage stage, String qualifier) {
            this(stage.named(""), qualifier);
        }

        @Override
        public int getFormatId() {
            return 4711;
        }

        @Override
        public byte[] getGlobalTransactionId() {
            byte[] bytes = name.getBytes(StandardCharsets.UTF_8);
            return Arrays.copyOfRange(bytes, Math.max(0, bytes.length - 64), bytes.length);
        }

        @Override
        public byte[] getBranchQualifier() {
            return qualifier.getBytes(StandardCharsets.UTF_8);
        }

        boolean is(Xid other) {
            return other.getFormatId() == getFormatId()
                && Arrays.equals(other.getGlobalTransactionId(), getGlobalTransactionId())
                && Arrays.equals(other.getBranchQualifier(), getBranchQualifier());
        }

        boolean isIn(XAResource resource) throws XAException {
            return Arrays.stream(resource.recover(XAResource.TMSTARTRSCAN)).anyMatch(this::is);
        }
    }

    static void failsWith(int code, Callable<?> action) {
        XAException refused = Stage.fails(XAException.class, action);
        Stage.expect(code, refused.errorCode);
    }

    /** Receives one from `in` and sends it to `out` within a branch, and ends it. */
    static void pass(Stage stage, XASession session, Xid branch) throws Exception {
        XAResource resource = session.getXAResource();
        resource.start(branch, XAResource.TMNOFLAGS);
        MessageConsumer consumer = session.createConsumer(stage.queue("in"));
        session.createProducer(stage.queue("out")).send(Stage.next(consumer));
        resource.end(branch, XAResource.TMSUCCESS);
        consumer.close();
    }

    static void expectQueues(Stage stage, List<String> in, List<String> out)
            throws JMSException {
        Stage.expect(in, stage.drain(stage.queue("in")));
        Stage.expect(out, stage.drain(stage.queue("out")));
    }

    static void a_prepared_branch_commits(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a", "b");
        Branch branch = new Branch(stage, "1");
        XASession session = stage.connectXa().createXASession();
        XAResource resource = session.getXAResource();
        pass(stage, session, branch);
        Stage.expect(XAResource.XA_OK, resource.prepare(branch));
        Stage.check(branch.isIn(resource), "not in the recovery scan");
        Stage.expect(List.of(), stage.drain(stage.queue("out")));
        resource.commit(branch, false);
        Stage.check(!branch.isIn(resource), "still in the recovery scan");
        expectQueues(stage, List.of("b"), List.of("a"));
    }

    static void a_branch_commits_in_one_phase(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a");
        Branch branch = new Branch(stage, "1");
        XASession session = stage.connectXa().createXASession();
        pass(stage, session, branch);
        session.getXAResource().commit(branch, true);
        expectQueues(stage, List.of(), List.of("a"));
    }

    static void a_branch_rolls_back(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a");
        Branch branch = new Branch(stage, "1");
        XASession session = stage.connectXa().createXASession();
        pass(stage, session, branch);
        session.getXAResource().rollback(branch);
        expectQueues(stage, List.of("a"), List.of());
    }

    static void a_prepared_branch_rolls_back(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a");
        Branch branch = new Branch(stage, "1");
        XASession session = stage.connectXa().createXASession();
        pass(stage, session, branch);
        Stage.expect(XAResource.XA_OK, session.getXAResource().prepare(branch));
        session.getXAResource().rollback(branch);
        expectQueues(stage, List.of("a"), List.of());
    }

    static void a_branch_without_work_is_read_only(Stage stage) throws Exception {
        Branch branch = new Branch(stage, "1");
        XAResource resource = stage.connectXa().createXASession().getXAResource();
        resource.start(branch, XAResource.TMNOFLAGS);
        resource.end(branch, XAResource.TMSUCCESS);
        Stage.expect(XAResource.XA_RDONLY, resource.prepare(branch));
        Stage.check(!branch.isIn(resource), "in the recovery scan");
    }

    static void a_suspended_branch_goes_on(Stage stage) throws Exception {
        Branch branch = new Branch(stage, "1");
        XASession session = stage.connectXa().createXASession();
        XAResource resource = session.getXAResource();
        resource.start(branch, XAResource.TMNOFLAGS);
        session.createProducer(stage.queue("out")).send(session.createTextMessage("a"));
        resource.end(branch, XAResource.TMSUSPEND);
        resource.start(branch, XAResource.TMRESUME);
        session.createProducer(stage.queue("out")).send(session.createTextMessage("b"));
        resource.end(branch, XAResource.TMSUCCESS);
        resource.prepare(branch);
        resource.commit(branch, false);
        Stage.expect(List.of("a", "b"), stage.drain(stage.queue("out")));
    }

    static void sessions_join_a_branch(Stage stage) throws Exception {
        Branch branch = new Branch(stage, "1");
        XAConnection connection = stage.connectXa();
        XASession one = connection.createXASession();
        XASession two = connection.createXASession();
        one.getXAResource().start(branch, XAResource.TMNOFLAGS);
        one.createProducer(stage.queue("out")).send(one.createTextMessage("a"));
        one.getXAResource().end(branch, XAResource.TMSUCCESS);
        two.getXAResource().start(branch, XAResource.TMJOIN);
        two.createProducer(stage.queue("out")).send(two.createTextMessage("b"));
        two.getXAResource().end(branch, XAResource.TMSUCCESS);
        one.getXAResource().prepare(branch);
        one.getXAResource().commit(branch, false);
        Stage.expect(List.of("a", "b"), stage.drain(stage.queue("out")));
    }

    static void sessions_of_a_branch_overlap(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "x");
        Branch branch = new Branch(stage, "1");
        XAConnection connection = stage.connectXa();
        connection.start();
        XASession one = connection.createXASession();
        XASession two = connection.createXASession();
        MessageConsumer consumer = two.createConsumer(stage.queue("in"));
        one.getXAResource().start(branch, XAResource.TMNOFLAGS);
        two.getXAResource().start(branch, XAResource.TMJOIN);
        one.createProducer(stage.queue("out")).send(one.createTextMessage("a"));
        one.getXAResource().end(branch, XAResource.TMSUCCESS);
        Stage.expect("x", ((TextMessage) consumer.receive(Stage.PATIENCE)).getText());
        two.createProducer(stage.queue("out")).send(two.createTextMessage("b"));
        two.getXAResource().end(branch, XAResource.TMSUSPEND);
        two.getXAResource().start(branch, XAResource.TMRESUME);
        two.createProducer(stage.queue("out")).send(two.createTextMessage("c"));
        two.getXAResource().end(branch, XAResource.TMSUCCESS);
        one.getXAResource().prepare(branch);
        one.getXAResource().commit(branch, false);
        connection.close();
        Stage.expect(List.of("a", "b", "c"), stage.drain(stage.queue("out")));
        Stage.expect(List.of(), stage.drain(stage.queue("in")));
    }

    static void errors_have_their_codes(Stage stage) throws Exception {
        XASession session = stage.connectXa().createXASession();
        XAResource resource = session.getXAResource();
        Branch unknown = new Branch(stage, "unknown");
        failsWith(XAException.XAER_NOTA, () -> {
            resource.commit(unknown, false);
            return null;
        });
        failsWith(XAException.XAER_NOTA, () -> {
            resource.rollback(unknown);
            return null;
        });
        failsWith(XAException.XAER_NOTA, () -> {
            resource.forget(unknown);
            return null;
        });
        Branch branch = new Branch(stage, "1");
        stage.send(stage.queue("in"), "a");
        pass(stage, session, branch);
        failsWith(XAException.XAER_PROTO, () -> {
            resource.commit(branch, false);
            return null;
        });
        // The refusal has changed nothing.
        resource.prepare(branch);
        resource.commit(branch, false);
        expectQueues(stage, List.of(), List.of("a"));
    }

    static void brokers_are_the_same_or_not(Stage stage) throws Exception {
        XAResource one = stage.connectXa().createXASession().getXAResource();
        XAResource two = stage.connectXa().createXASession().getXAResource();
        Stage.check(one.isSameRM(two) && two.isSameRM(one), "one broker is another");
    }

    static void a_vote_outlives_its_connection(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a");
        Branch branch = new Branch(stage, "1");
        XAConnection connection = stage.connectXa();
        XASession session = connection.createXASession();
        pass(stage, session, branch);
        Stage.expect(XAResource.XA_OK, session.getXAResource().prepare(branch));
        connection.close();
        expectQueues(stage, List.of(), List.of());
        XAResource other = stage.connectXa().createXASession().getXAResource();
        Stage.check(branch.isIn(other), "not in the recovery scan");
        other.rollback(branch);
        expectQueues(stage, List.of("a"), List.of());
    }

    static void work_without_a_vote_goes_with_its_connection(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a");
        Branch branch = new Branch(stage, "1");
        XAConnection connection = stage.connectXa();
        pass(stage, connection.createXASession(), branch);
        connection.close();
        expectQueues(stage, List.of("a"), List.of());
        XAResource other = stage.connectXa().createXASession().getXAResource();
        // Both say that nothing was committed: nobody knows it, or it was rolled back.
        XAException refused = Stage.fails(XAException.class, () -> {
            other.commit(branch, true);
            return null;
        });
        List<Integer> either = List.of(XAException.XAER_NOTA, XAException.XA_RBROLLBACK);
        Stage.check(either.contains(refused.errorCode), "the code is " + refused.errorCode);
    }

    static void votes_survive_a_crash(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a", "b", "c");
        Branch first = new Branch(stage, "1");
        Branch second = new Branch(stage, "2");
        Branch third = new Branch(stage, "3");
        XAConnection connection = stage.connectXa();
        for (Branch branch : List.of(first, second, third)) {
            pass(stage, connection.createXASession(), branch);
        }
        XAResource before = connection.createXASession().getXAResource();
        Stage.expect(XAResource.XA_OK, before.prepare(first));
        Stage.expect(XAResource.XA_OK, before.prepare(second));
        stage.killBroker();
        stage.startBroker();
        XAResource after = stage.connectXa().createXASession().getXAResource();
        Stage.check(first.isIn(after) && second.isIn(after), "a vote is lost");
        Stage.check(!third.isIn(after), "in the recovery scan without a vote");
        // What was done without a vote is undone; what was voted on is nobody's yet.
        expectQueues(stage, List.of("c"), List.of());
        after.commit(first, false);
        after.rollback(second);
        expectQueues(stage, List.of("b"), List.of("a"));
    }

    static void a_session_goes_from_branch_to_branch(Stage stage) throws Exception {
        stage.send(stage.queue("in"), Acknowledging.numbered(20));
        XASession session = stage.connectXa().createXASession();
        XAResource resource = session.getXAResource();
        MessageConsumer consumer = session.createConsumer(stage.queue("in"));
        var producer = session.createProducer(stage.queue("out"));
        for (int i = 0; i < 20; i++) {
            Branch branch = new Branch(stage, "b" + i);
            resource.start(branch, XAResource.TMNOFLAGS);
            Message message = Stage.next(consumer);
            producer.send(message);
            resource.end(branch, XAResource.TMSUCCESS);
            resource.prepare(branch);
            resource.commit(branch, false);
        }
        expectQueues(stage, List.of(), Arrays.asList(Acknowledging.numbered(20)));
    }
}
