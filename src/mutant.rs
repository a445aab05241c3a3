//! Defects on purpose: each breaks one promise, and a test shows that the simulation notices.
//!
//! They exist in unit tests only; everywhere else [`is`] is a constant `false`.

/// A defect that the simulation must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Answers leave when their record is appended, not when it is durable.
    AnswerBeforeSync,
    /// A checkpoint commits the index before the log is durable so far.
    IndexBeforeLog,
    /// Frames and batches count whatever their checksums say.
    IgnoreChecksum,
    /// A new life forgets what may have been delivered in the last one.
    ForgetLent,
    /// A restored store does not flag what the other may have delivered.
    ForgetRestored,
    /// A segment is given back although something in it is needed.
    RetireTheLiving,
    /// A publication dies with the first subscription that is done with it.
    DropShared,
    /// A publication goes to the first of the subscriptions that want it.
    PublishToOne,
    /// A publication is confirmed that no subscription keeps.
    ForgetKept,
    /// What a transaction has published goes to nobody.
    SpreadToNobody,
    /// What several hold is not packed where the record of its birth does not find it.
    PackUnshared,
    /// The body of a publication ends with the first who keeps it.
    EndSharedBody,
    /// A body that nobody keeps ends whoever listens to it.
    ForgetListeners,
    /// Who listens hears nothing of what waits in a line.
    ForgetToAnnounce,
    /// What stands behind a line is heard at once, and from there.
    AnnounceAtOnce,
    /// How many hold a payload is forgotten over a checkpoint.
    LoseShares,
    /// The pieces of a large message's body are forgotten when the message goes.
    ForgetPieces,
    /// What a life had begun to take in is forgotten by the next one.
    ForgetUploads,
    /// A large body counts as complete although a piece of it was refused.
    TakeGaps,
    /// A send that must wait for room is confirmed at once.
    ConfirmHeld,
    /// A send that has waited for room is confirmed in its turn, and not done.
    ForgetHeld,
    /// A move between queues forgets to take the message out of the first.
    MoveWithoutLeaving,
    /// A message that is set apart leaves its queue and arrives nowhere.
    DeadLetterIntoNothing,
    /// A message that was to wait is handed out and waits on.
    FireWithoutLeaving,
    /// An occurrence of a message that comes again is not counted.
    OccurUncounted,
    /// A message whose delay is over is not put back where it waits.
    WakeIntoNothing,
    /// A segment is given back for a pack that the index was never told of.
    PackWithoutPlace,
    /// A segment is given back for a pack before the index durably knows it.
    RecycleBeforeIndex,
    /// What a transaction has settled waits for everyone while it has no outcome.
    ForgetHolds,
    /// Nobody is told that a message sent in a transaction lies in its queue from now on.
    ForgetEntered,
    /// A transaction that the end of a life cuts short is committed.
    CommitOpen,
    /// A new life rolls back what has voted, too.
    ForgetPrepared,
    /// How a branch has ended is forgotten at once.
    ForgetOutcomes,
    /// That a new branch has the name of an older one is forgotten over a crash.
    ForgetBegun,
    /// What an operator has decided is forgotten at once.
    ForgetDecisions,
    /// A commit does not wait for room.
    CommitWithoutRoom,
    /// What was done under a name is forgotten when a life begins.
    ForgetNames,
    /// What is asked a second time is answered before the first is durable.
    RepeatBeforeSync,
    /// A transaction that is rolled back keeps its names.
    KeepNames,
    /// Which numbers of producers were seen is forgotten over a checkpoint.
    ForgetNumbers,
    /// A number below the window of its producer is taken for a new one.
    TakeBelow,
    /// A transaction that is rolled back keeps the numbers of its messages.
    KeepNumbers,
    /// The index names a pack that is not durable.
    NameUnsyncedPack,
    /// What is needed of a segment is judged by one state of the index, and whether all of it was
    /// found by a later one.
    JudgeByTwoStates,
    /// A dead segment is given back when a checkpoint begins, not when the index has it.
    RetireBeforeIndex,
    /// Segments are judged by what memory knows, not by what the index does.
    JudgeByMemory,
    /// A backup does not hold what it has yet to copy.
    LoseHold,
    /// A send that has waited for room is done in its turn, and never answered.
    SilenceHeld,
    /// A send that has waited for room is answered twice.
    AnswerHeldTwice,
    /// A send that has waited for room is done twice.
    RepeatHeld,
    /// What a selector leaves out is handed to its consumers.
    SelectAll,
    /// What comes back to a queue is not looked at again by consumers with selectors.
    SelectOnce,
    /// A start does not look which queues read topics.
    ForgetReaders,
    /// The copy of a segment that a start makes is listed without being synced.
    ListUnsyncedCopy,
}

#[cfg(test)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether this defect is to be had, on this thread.
#[cfg(test)]
pub(crate) fn is(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Whether this defect is to be had: never.
#[cfg(not(test))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

/// Lets a defect, or none, be had on this thread from now on.
#[cfg(test)]
pub(crate) fn set(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}
