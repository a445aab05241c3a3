//! What stands in for a message whose payload is damaged: an operator finds out which it was, and
//! where in the log it lies.

use bytes::Bytes;

use crate::broker::command::MessageId;
use crate::ids::Lsn;
use crate::message::{BodyKind, Content};
use crate::wal::Damage;

/// The content of a message that is born at `birth` and cannot be read.
pub(super) fn lost_content(birth: Lsn, damage: &Damage) -> Bytes {
    let properties = vec![
        ("dlqDeliveryFailureCause".to_owned(), damage.to_string()),
        ("damagedMessage".to_owned(), MessageId::Durable(birth).to_string()),
        ("damagedFile".to_owned(), damage.file.clone()),
        ("damagedOffset".to_owned(), damage.offset.to_string()),
    ];
    let body = format!("The content of the message at {birth} is damaged: {damage}\n");
    Content { kind: BodyKind::Text, properties, body: body.into() }.encode()
}
