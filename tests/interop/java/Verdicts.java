import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import javax.jms.Connection;
import javax.jms.JMSException;
import javax.jms.MessageConsumer;
import javax.jms.Session;
import javax.jms.TemporaryQueue;
import javax.jms.XAConnection;
import javax.jms.XASession;
import javax.transaction.xa.XAException;
import javax.transaction.xa.XAResource;
import javax.transaction.xa.Xid;

/** What a transaction manager is told where not all goes well, and whom it takes for the same. */
final class Verdicts {
    private static final String OUTSIDE = "?jms.watchTopicAdvisories=false";

    private static void send(XASession session, Stage stage, String text) throws JMSException {
        session.createProducer(stage.queue("out")).send(session.createTextMessage(text));
    }

    static void a_session_works_in_one_branch_at_a_time(Stage stage) throws Exception {
        Branches.Branch first = new Branches.Branch(stage, "1");
        Branches.Branch second = new Branches.Branch(stage, "2");
        XASession session = stage.connectXa().createXASession();
        XAResource resource = session.getXAResource();
        resource.start(first, XAResource.TMNOFLAGS);
        for (Xid other : List.of(first, second)) {
            Branches.failsWith(XAException.XAER_PROTO, () -> {
                resource.start(other, XAResource.TMNOFLAGS);
                return null;
            });
        }
        Branches.failsWith(XAException.XAER_PROTO, () -> {
            resource.end(second, XAResource.TMSUSPEND);
            return null;
        });
        Branches.failsWith(XAException.XAER_INVAL, () -> {
            resource.end(first, XAResource.TMNOFLAGS);
            return null;
        });
        // No refusal has changed anything.
        send(session, stage, "a");
        resource.end(first, XAResource.TMSUCCESS);
        resource.commit(first, true);
        Stage.expect(List.of("a"), stage.drain(stage.queue("out")));
    }

    static void a_branch_that_has_voted_takes_no_more_work(Stage stage) throws Exception {
        Branches.Branch branch = new Branches.Branch(stage, "1");
        XASession session = stage.connectXa().createXASession();
        session.getXAResource().start(branch, XAResource.TMNOFLAGS);
        send(session, stage, "voted on");
        session.getXAResource().end(branch, XAResource.TMSUCCESS);
        Stage.expect(XAResource.XA_OK, session.getXAResource().prepare(branch));
        XASession other = stage.connectXa().createXASession();
        try {
            // The client does not wait for the answer to a start, so any of these may tell.
            other.getXAResource().start(branch, XAResource.TMNOFLAGS);
            send(other, stage, "too late");
            other.getXAResource().end(branch, XAResource.TMSUCCESS);
        } catch (XAException | JMSException e) {
            // Told early. What counts is what the commit does.
        }
        session.getXAResource().commit(branch, false);
        Stage.expect(List.of("voted on"), stage.drain(stage.queue("out")));
    }

    static void what_was_refused_in_a_branch_spoils_it(Stage stage) throws Exception {
        Session owner = stage.session(Session.AUTO_ACKNOWLEDGE);
        TemporaryQueue gone = owner.createTemporaryQueue();
        gone.delete();
        for (boolean onePhase : new boolean[] {false, true}) {
            Branches.Branch branch = new Branches.Branch(stage, "in one phase: " + onePhase);
            XASession session = stage.connectXa(stage.address() + OUTSIDE).createXASession();
            XAResource resource = session.getXAResource();
            resource.start(branch, XAResource.TMNOFLAGS);
            send(session, stage, "a");
            // Nobody waits for what is sent in a branch: its vote tells.
            session.createProducer(null).send(gone, session.createTextMessage("b"));
            resource.end(branch, XAResource.TMSUCCESS);
            Branches.failsWith(XAException.XA_RBROLLBACK, () -> {
                if (onePhase) {
                    resource.commit(branch, true);
                    return null;
                }
                return resource.prepare(branch);
            });
            Stage.check(!branch.isIn(resource), "in the recovery scan");
        }
        Stage.expect(List.of(), stage.drain(stage.queue("out")));
    }

    static void a_lost_broker_is_told_as_one(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a");
        Branches.Branch branch = new Branches.Branch(stage, "1");
        XASession session = stage.connectXa().createXASession();
        XAResource resource = session.getXAResource();
        Branches.pass(stage, session, branch);
        stage.killBroker();
        Branches.failsWith(XAException.XAER_RMFAIL, () -> resource.prepare(branch));
        stage.startBroker();
        // Nobody has voted, so nothing has happened.
        Branches.expectQueues(stage, List.of("a"), List.of());
    }

    static void a_vote_whose_answer_was_lost_waits_for_its_manager(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a", "b");
        XAResource outside = stage.connectXa().createXASession().getXAResource();
        for (boolean commits : new boolean[] {false, true}) {
            Branches.Branch branch = new Branches.Branch(stage, "commits: " + commits);
            try (Wire wire = new Wire(stage.address())) {
                XASession session = stage.connectXa(wire.address()).createXASession();
                Branches.pass(stage, session, branch);
                wire.loseAnswers();
                CompletableFuture<Void> voting =
                    Breaking.inBackground(() -> session.getXAResource().prepare(branch));
                Stage.await("it has voted", () -> branch.isIn(outside));
                wire.cut();
                expectFailed(voting);
            }
            if (commits) {
                outside.commit(branch, false);
            } else {
                outside.rollback(branch);
            }
        }
        Branches.expectQueues(stage, List.of("b"), List.of("a"));
    }

    static void a_commit_whose_answer_was_lost_is_answered_again(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a", "b");
        for (boolean onePhase : new boolean[] {false, true}) {
            Branches.Branch branch = new Branches.Branch(stage, "in one phase: " + onePhase);
            try (Wire wire = new Wire(stage.address())) {
                XASession session = stage.connectXa(wire.address()).createXASession();
                XAResource resource = session.getXAResource();
                Branches.pass(stage, session, branch);
                if (!onePhase) {
                    resource.prepare(branch);
                }
                wire.loseAnswers();
                CompletableFuture<Void> committing =
                    Breaking.inBackground(() -> resource.commit(branch, onePhase));
                Breaking.awaitDepth(stage, "out", onePhase ? 2 : 1);
                wire.cut();
                expectFailed(committing);
            }
            // Who asks again hears what is true, and nothing happens twice.
            XAResource outside = stage.connectXa().createXASession().getXAResource();
            Stage.check(!branch.isIn(outside), "in the recovery scan");
            outside.commit(branch, onePhase);
        }
        Branches.expectQueues(stage, List.of(), List.of("a", "b"));
    }

    private static void expectFailed(CompletableFuture<Void> asked) throws Exception {
        ExecutionException lost = Stage.fails(ExecutionException.class,
            () -> asked.get(Stage.PATIENCE, TimeUnit.MILLISECONDS));
        Stage.expect(XAException.XAER_RMFAIL, ((XAException) lost.getCause()).errorCode);
    }

    static void an_operators_commit_is_told_and_forgotten(Stage stage) throws Exception {
        decide(stage, "commit", XAException.XA_HEURCOM);
        Branches.expectQueues(stage, List.of(), List.of("a"));
    }

    static void an_operators_rollback_is_told_and_forgotten(Stage stage) throws Exception {
        decide(stage, "rollback", XAException.XA_HEURRB);
        Branches.expectQueues(stage, List.of("a"), List.of());
    }

    private static void decide(Stage stage, String how, int told) throws Exception {
        stage.send(stage.queue("in"), "a");
        Branches.Branch branch = new Branches.Branch(stage, "1");
        XAConnection connection = stage.connectXa();
        XASession session = connection.createXASession();
        Branches.pass(stage, session, branch);
        XAResource resource = session.getXAResource();
        resource.prepare(branch);
        HexFormat hex = HexFormat.of();
        stage.ask(how + " " + branch.getFormatId() + ":"
            + hex.formatHex(branch.getGlobalTransactionId()) + ":"
            + hex.formatHex(branch.getBranchQualifier()));
        // Whatever the manager wanted, it is told what the operator did, until it forgets.
        Stage.check(branch.isIn(resource), "not in the recovery scan");
        Branches.failsWith(told, () -> {
            resource.rollback(branch);
            return null;
        });
        Branches.failsWith(told, () -> {
            resource.commit(branch, false);
            return null;
        });
        resource.forget(branch);
        Stage.check(!branch.isIn(resource), "still in the recovery scan");
        Branches.failsWith(XAException.XAER_NOTA, () -> {
            resource.forget(branch);
            return null;
        });
        connection.close();
    }

    static void a_scan_finds_each_branch(Stage stage) throws Exception {
        List<Branches.Branch> branches = new ArrayList<>();
        XASession session = stage.connectXa().createXASession();
        XAResource resource = session.getXAResource();
        for (int i = 0; i < 300; i++) {
            Branches.Branch branch = new Branches.Branch(stage, "b" + i);
            branches.add(branch);
            resource.start(branch, XAResource.TMNOFLAGS);
            send(session, stage, "m" + i);
            resource.end(branch, XAResource.TMSUCCESS);
            resource.prepare(branch);
        }
        int both = XAResource.TMSTARTRSCAN | XAResource.TMENDRSCAN;
        for (int flags : new int[] {both, XAResource.TMSTARTRSCAN}) {
            Xid[] found = resource.recover(flags);
            for (Branches.Branch branch : branches) {
                long count = Arrays.stream(found).filter(branch::is).count();
                Stage.expect(1L, count);
            }
        }
        // All came at once, so that a scan that goes on comes to its end.
        Stage.expect(0, resource.recover(XAResource.TMNOFLAGS).length);
        for (Branches.Branch branch : branches) {
            resource.rollback(branch);
        }
        Stage.check(branches.stream().noneMatch(branch -> isIn(branch, resource)), "not all gone");
    }

    private static boolean isIn(Branches.Branch branch, XAResource resource) {
        try {
            return branch.isIn(resource);
        } catch (XAException e) {
            throw new IllegalStateException(e);
        }
    }

    static void connections_join_a_branch(Stage stage) throws Exception {
        Branches.Branch branch = new Branches.Branch(stage, "1");
        XASession one = stage.connectXa().createXASession();
        XASession two = stage.connectXa().createXASession();
        one.getXAResource().start(branch, XAResource.TMNOFLAGS);
        send(one, stage, "a");
        one.getXAResource().end(branch, XAResource.TMSUCCESS);
        two.getXAResource().start(branch, XAResource.TMJOIN);
        send(two, stage, "b");
        two.getXAResource().end(branch, XAResource.TMSUCCESS);
        Stage.expect(XAResource.XA_OK, one.getXAResource().prepare(branch));
        Stage.expect(List.of(), stage.drain(stage.queue("out")));
        one.getXAResource().commit(branch, false);
        Stage.expect(List.of("a", "b"), stage.drain(stage.queue("out")));
    }

    static void a_suspended_branch_rests_while_its_session_works_in_another(Stage stage)
            throws Exception {
        Branches.Branch first = new Branches.Branch(stage, "1");
        Branches.Branch second = new Branches.Branch(stage, "2");
        XASession session = stage.connectXa().createXASession();
        XAResource resource = session.getXAResource();
        resource.start(first, XAResource.TMNOFLAGS);
        send(session, stage, "a");
        resource.end(first, XAResource.TMSUSPEND);
        resource.start(second, XAResource.TMNOFLAGS);
        send(session, stage, "x");
        resource.end(second, XAResource.TMSUCCESS);
        resource.rollback(second);
        resource.start(first, XAResource.TMRESUME);
        send(session, stage, "b");
        resource.end(first, XAResource.TMSUCCESS);
        resource.commit(first, true);
        Stage.expect(List.of("a", "b"), stage.drain(stage.queue("out")));
    }

    static void a_branch_that_found_nothing_is_read_only(Stage stage) throws Exception {
        Branches.Branch branch = new Branches.Branch(stage, "1");
        XASession session = stage.connectXa().createXASession();
        XAResource resource = session.getXAResource();
        resource.start(branch, XAResource.TMNOFLAGS);
        MessageConsumer consumer = session.createConsumer(stage.queue("in"));
        Stage.expect(null, consumer.receiveNoWait());
        resource.end(branch, XAResource.TMSUCCESS);
        Stage.expect(XAResource.XA_RDONLY, resource.prepare(branch));
        Stage.check(!branch.isIn(resource), "in the recovery scan");
    }

    static void a_broker_is_the_same_after_a_crash(Stage stage) throws Exception {
        XAResource before = stage.connectXa().createXASession().getXAResource();
        XAResource beside = stage.connectXa().createXASession().getXAResource();
        Stage.check(before.isSameRM(beside), "two connections to one broker");
        stage.killBroker();
        stage.startBroker();
        XAResource after = stage.connectXa().createXASession().getXAResource();
        Stage.check(after.isSameRM(before), "the same store, after a crash");
    }

    static void a_vote_is_completed_by_who_reconnects(Stage stage) throws Exception {
        stage.send(stage.queue("in"), "a", "b");
        String failover = "failover:(" + stage.address() + ")?maxReconnectDelay=50";
        XASession session = stage.connectXa(failover).createXASession();
        XAResource resource = session.getXAResource();
        Branches.Branch first = new Branches.Branch(stage, "1");
        Branches.Branch second = new Branches.Branch(stage, "2");
        Branches.pass(stage, session, first);
        Stage.expect(XAResource.XA_OK, resource.prepare(first));
        resource.start(second, XAResource.TMNOFLAGS);
        send(session, stage, "never");
        resource.end(second, XAResource.TMSUCCESS);
        Stage.expect(XAResource.XA_OK, resource.prepare(second));
        stage.killBroker();
        stage.startBroker();
        resource.commit(first, false);
        resource.rollback(second);
        // The session goes on with other branches, soon as if nothing had been.
        commitsSoon(stage, session, "c");
        Stage.expect(0L, Arrays.stream(resource.recover(XAResource.TMSTARTRSCAN))
            .filter(it -> first.is(it) || second.is(it)).count());
        Branches.expectQueues(stage, List.of("b"), List.of("a", "c"));
    }

    static void work_that_a_crash_interrupted_is_whole_or_not_at_all(Stage stage)
            throws Exception {
        String[] texts = Acknowledging.numbered(20);
        stage.send(stage.queue("in"), texts);
        String failover = "failover:(" + stage.address() + ")?maxReconnectDelay=50"
            + "&jms.redeliveryPolicy.maximumRedeliveries=-1&" + Returning.AT_ONCE;
        XASession session = stage.connectXa(failover).createXASession();
        XAResource resource = session.getXAResource();
        MessageConsumer consumer = session.createConsumer(stage.queue("in"));
        int committed = 0;
        for (int i = 0; committed < texts.length; i++) {
            Branches.Branch branch = new Branches.Branch(stage, "b" + i);
            resource.start(branch, XAResource.TMNOFLAGS);
            session.createProducer(stage.queue("out")).send(Stage.next(consumer));
            if (i == 5 || i == 10) {
                stage.killBroker();
                stage.startBroker();
            }
            try {
                resource.end(branch, XAResource.TMSUCCESS);
                resource.prepare(branch);
                resource.commit(branch, false);
                committed++;
            } catch (XAException e) {
                rollbackQuietly(resource, branch);
            }
        }
        Stage.expect(List.of(), stage.drain(stage.queue("in")));
        List<String> out = new ArrayList<>(stage.drain(stage.queue("out")));
        out.sort(null);
        Arrays.sort(texts);
        Stage.expect(Arrays.asList(texts), out);
    }

    static void a_branch_of_two_parts_is_not_committed_without_the_first(Stage stage)
            throws Exception {
        String failover = "failover:(" + stage.address() + ")?maxReconnectDelay=50";
        XASession session = stage.connectXa(failover).createXASession();
        XAResource resource = session.getXAResource();
        Branches.Branch branch = new Branches.Branch(stage, "in two parts");
        resource.start(branch, XAResource.TMNOFLAGS);
        send(session, stage, "first");
        resource.end(branch, XAResource.TMSUSPEND);
        resource.start(branch, XAResource.TMRESUME);
        send(session, stage, "second");
        stage.killBroker();
        stage.startBroker();
        resource.end(branch, XAResource.TMSUCCESS);
        Branches.failsWith(XAException.XA_RBROLLBACK, () -> resource.prepare(branch));
        // Who never acknowledges anything soon works on in others.
        commitsSoon(stage, session, "third");
        Branches.expectQueues(stage, List.of(), List.of("third"));
    }

    /** Sends in branches until one is committed: one that may have begun before is not. */
    private static void commitsSoon(Stage stage, XASession session, String text)
            throws Exception {
        XAResource resource = session.getXAResource();
        long until = System.currentTimeMillis() + Stage.PATIENCE;
        for (int i = 0;; i++) {
            Branches.Branch branch = new Branches.Branch(stage, text + " " + i);
            resource.start(branch, XAResource.TMNOFLAGS);
            send(session, stage, text);
            resource.end(branch, XAResource.TMSUCCESS);
            try {
                resource.prepare(branch);
                resource.commit(branch, false);
                return;
            } catch (XAException e) {
                Stage.expect(XAException.XA_RBROLLBACK, e.errorCode);
                Stage.check(System.currentTimeMillis() < until, "nothing new is committed");
                rollbackQuietly(resource, branch);
            }
        }
    }

    private static void rollbackQuietly(XAResource resource, Xid branch) {
        try {
            resource.rollback(branch);
        } catch (XAException e) {
            // Nobody knows it any more, or it was rolled back already.
        }
    }

    static void two_brokers_are_not_one(Stage here, Stage there) throws Exception {
        XAResource one = here.connectXa().createXASession().getXAResource();
        XAResource two = there.connectXa().createXASession().getXAResource();
        Stage.check(!one.isSameRM(two) && !two.isSameRM(one), "two brokers are one");
    }

    /** Of a broker that gives a branch a second. */
    static void a_branch_that_takes_too_long_is_rolled_back(Stage stage, Stage same)
            throws Exception {
        for (boolean onePhase : new boolean[] {false, true}) {
            stage.send(stage.queue("in"), "a");
            Branches.Branch branch = new Branches.Branch(stage, "in one phase: " + onePhase);
            try (Connection connection = stage.connectXa()) {
                XASession session = ((XAConnection) connection).createXASession();
                XAResource resource = session.getXAResource();
                resource.start(branch, XAResource.TMNOFLAGS);
                MessageConsumer consumer = session.createConsumer(stage.queue("in"));
                session.createProducer(stage.queue("out")).send(Stage.next(consumer));
                consumer.close();
                // Nothing tells of the moment: its time is over when more has passed.
                TimeUnit.MILLISECONDS.sleep(1_500);
                Branches.failsWith(XAException.XA_RBTIMEOUT, () -> {
                    resource.end(branch, XAResource.TMSUCCESS);
                    if (onePhase) {
                        resource.commit(branch, true);
                        return null;
                    }
                    return resource.prepare(branch);
                });
            }
            Branches.expectQueues(stage, List.of("a"), List.of());
        }
    }
}
