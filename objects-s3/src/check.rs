//! Whether all that is needed is allowed: tried with one small object, which no key can name.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::{ObjectStore as _, PutOptions};
use objects::ObjectError;

use crate::S3Objects;

/// What these objects are below.
const FOLDER: &str = ".check/";
const TEXT: &[u8] = b"bgagent looks whether it can keep objects here; this can be removed\n";

pub(crate) async fn check(of: &S3Objects) -> Result<(), ObjectError> {
    let mut random = [0u8; 12];
    getrandom::fill(&mut random).map_err(|e| ObjectError::Unavailable {
        doing: format!("checking {}", of.place.uri("")),
        reason: format!("no random name could be had: {e}"),
    })?;
    let name = format!("{FOLDER}{}", hex::encode(random));
    let doing = |what: &str| format!("{what} {}", of.place.uri(&name));
    // First of all, since some services answer to nothing else that there is no such bucket.
    of.page(FOLDER, None).await?;
    let text = Bytes::from_static(TEXT).into();
    let written = of.client.put_opts(&of.path(&name)?, text, PutOptions::default()).await;
    written.map_err(|e| of.failed(doing("writing"), &e))?;
    let looked = look(of, &name).await;
    // It goes whatever was seen; the first error is the one to tell.
    let removed = of.remove(&name).await;
    looked.and(removed)
}

async fn look(of: &S3Objects, name: &str) -> Result<(), ObjectError> {
    let doing = |what: &str| format!("{what} {}", of.place.uri(name));
    let other = |reason: &str| ObjectError::Refused { doing: doing("reading"), reason: reason.to_owned() };
    let read = match of.fetch(name).await? {
        Some((_, body)) => body.try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        }),
        None => return Err(other("what was just written is not there: something else removes it")),
    };
    let read = read
        .await
        .map_err(|e| ObjectError::Unavailable { doing: doing("reading"), reason: e.to_string() })?;
    if read != TEXT {
        return Err(other("it is not what was written: is this the service, or a proxy before it?"));
    }
    let (listed, _) = of.page(FOLDER, None).await?;
    if listed.is_empty() {
        return Err(ObjectError::Refused {
            doing: doing("listing"),
            reason: "what was just written is not listed; the service must list at once what is there".into(),
        });
    }
    match of.fetch(&format!("{name}-absent")).await {
        Ok(_) => Ok(()),
        Err(ObjectError::Refused { doing, reason }) => Err(ObjectError::Refused {
            doing,
            reason: format!(
                "{reason}. It is not there, which is not told without s3:ListBucket on the whole bucket (without a \
                 condition on the prefix)"
            ),
        }),
        Err(other) => Err(other),
    }
}
