//! Stored objects before the judge, with all that their query asks of other objects and of their past.

use crate::catalogue::{Catalogue, Keys, Known};
use crate::moment::Moment;
use crate::object::Object;
use crate::query::World;
use crate::store::{Store, StoreError};

/// How often more is fetched for one page. Each time takes a query one step further from its subject, and a query has
/// fewer steps than this.
const ROUNDS: usize = 64;

/// The objects that the answer takes, in the order of their keys, and for how many it was too costly. All are of one
/// organisation.
pub async fn judged<E>(
    store: &Store,
    catalogue: &Catalogue,
    organization: &str,
    now: Moment,
    objects: Vec<Object>,
    ask: impl Fn(&Object, &dyn World) -> Result<bool, E>,
) -> Result<(Vec<Object>, i64), StoreError> {
    let (mut taken, mut costly) = (Vec::new(), 0);
    let mut parts = vec![objects];
    while let Some(mut open) = parts.pop() {
        // Each part begins anew, so that what is known at a time stays bounded.
        let mut known = Known::default();
        for _ in 0..ROUNDS {
            let mut waiting = Vec::new();
            for object in open {
                match known.answer(catalogue, |world| ask(&object, world).ok()) {
                    None => waiting.push(object),
                    Some(Some(true)) => taken.push(object),
                    Some(Some(false)) => {}
                    Some(None) => costly += 1,
                }
            }
            open = waiting;
            if open.is_empty() {
                break;
            }
            let missing = known.missing();
            let found = store
                .look_up(organization, &missing, &Keys::new(), now)
                .await?;
            if found.too_much {
                // What one object alone may not read is too costly.
                if open.len() > 1 {
                    parts.push(open.split_off(open.len() / 2));
                    parts.push(std::mem::take(&mut open));
                }
                break;
            }
            known.learn(missing, found);
        }
        costly += i64::try_from(open.len()).unwrap_or(i64::MAX);
    }
    taken.sort_by(|a, b| a.key.cmp(&b.key));
    Ok((taken, costly))
}
