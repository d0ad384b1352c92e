//! Versions and object lock.

use s3s::{
    S3Result,
    dto::{
        self, BucketVersioningStatus, CommonPrefix, DefaultRetention, DeleteMarkerEntry, DeleteObjectsInput,
        DeleteObjectsOutput, DeletedObject, ETag, Error, GetBucketVersioningInput, GetBucketVersioningOutput,
        GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
        GetObjectLockConfigurationOutput, GetObjectRetentionInput, GetObjectRetentionOutput, ListObjectVersionsInput,
        ListObjectVersionsOutput, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHold,
        ObjectLockLegalHoldStatus, ObjectLockRetention, ObjectLockRetentionMode, ObjectLockRule, ObjectVersion,
        PutBucketVersioningInput, PutBucketVersioningOutput, PutObjectLegalHoldInput, PutObjectLegalHoldOutput,
        PutObjectLockConfigurationInput, PutObjectLockConfigurationOutput, PutObjectRetentionInput,
        PutObjectRetentionOutput,
    },
    s3_error,
};

use super::{
    super::{
        answers::{PAGE, signed, spell, spelled_as_url},
        listing::{Line, Wanted},
        protection::{self, Length, Lock, Mode, Retention, Versioning},
        versions::Removed,
    },
    Folder,
};

pub(super) async fn versioning(
    folder: &Folder,
    input: GetBucketVersioningInput,
) -> S3Result<GetBucketVersioningOutput> {
    let settings = folder.with(move |objects| objects.settings(&input.bucket)).await?;
    // No status: the bucket was never versioned.
    let status = settings.versioning.map(|versioning| match versioning {
        Versioning::Enabled => BucketVersioningStatus::ENABLED,
        Versioning::Suspended => BucketVersioningStatus::SUSPENDED,
    });
    let status = status.map(BucketVersioningStatus::from_static);
    Ok(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() })
}

pub(super) async fn set_versioning(
    folder: &Folder,
    input: PutBucketVersioningInput,
) -> S3Result<PutBucketVersioningOutput> {
    let versioning = match input.versioning_configuration.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        _ => return Err(s3_error!(MalformedXML, "the status is Enabled or Suspended")),
    };
    folder
        .with(move |objects| {
            objects.set(&input.bucket, |settings| {
                if settings.lock.is_some() && versioning == Versioning::Suspended {
                    return Err(s3_error!(InvalidBucketState, "object lock needs versioning"));
                }
                settings.versioning = Some(versioning);
                Ok(())
            })
        })
        .await?;
    Ok(PutBucketVersioningOutput::default())
}

pub(super) async fn list(folder: &Folder, input: ListObjectVersionsInput) -> S3Result<ListObjectVersionsOutput> {
    let url = spelled_as_url(input.encoding_type.as_ref());
    let max = input.max_keys.unwrap_or(PAGE).min(PAGE);
    let most = usize::try_from(max).map_err(|_| s3_error!(InvalidArgument, "max-keys must not be negative"))?;
    let (bucket, prefix, delimiter) = (input.bucket.clone(), input.prefix.clone(), input.delimiter.clone());
    let (key, version) = (input.key_marker.clone().unwrap_or_default(), input.version_id_marker.clone());
    if version.is_some() && key.is_empty() {
        return Err(s3_error!(InvalidArgument, "a version to begin after needs its key"));
    }
    let (lines, more) = folder
        .with(move |objects| {
            let wanted = Wanted {
                prefix: prefix.as_deref().unwrap_or_default(),
                delimiter: delimiter.as_deref().filter(|delimiter| !delimiter.is_empty()),
                after: &key,
                max: most,
            };
            objects.list_versions(&bucket, &wanted, version.as_deref())
        })
        .await?;
    let last = lines.last().filter(|_| more);
    let next = last.map(|line| match line {
        Line::Version(key, version) => (spell(url, key.clone()), Some(version.meta.version_id().to_owned())),
        Line::Prefix(prefix) => (spell(url, prefix.clone()), None),
    });
    let (next_key_marker, next_version_id_marker) = next.unzip();
    let (mut versions, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        let (key, version) = match line {
            Line::Prefix(prefix) => {
                prefixes.push(CommonPrefix { prefix: Some(spell(url, prefix)) });
                continue;
            }
            Line::Version(key, version) => (Some(spell(url, key)), version),
        };
        let (is_latest, version_id) = (Some(version.is_latest), Some(version.meta.version_id().to_owned()));
        let last_modified = Some(version.meta.modified().into());
        if version.meta.is_deletion {
            markers.push(DeleteMarkerEntry { key, is_latest, version_id, last_modified, owner: None });
        } else {
            versions.push(ObjectVersion {
                key,
                is_latest,
                version_id,
                last_modified,
                size: Some(signed(version.meta.size)),
                e_tag: Some(ETag::Strong(version.meta.etag)),
                ..ObjectVersion::default()
            });
        }
    }
    Ok(ListObjectVersionsOutput {
        versions: Some(versions),
        delete_markers: Some(markers),
        common_prefixes: Some(prefixes),
        is_truncated: Some(more),
        next_key_marker,
        next_version_id_marker: next_version_id_marker.flatten(),
        max_keys: Some(max),
        name: Some(input.bucket),
        prefix: Some(spell(url, input.prefix.unwrap_or_default())),
        delimiter: input.delimiter.map(|delimiter| spell(url, delimiter)),
        key_marker: Some(spell(url, input.key_marker.unwrap_or_default())),
        version_id_marker: input.version_id_marker,
        encoding_type: input.encoding_type,
        ..ListObjectVersionsOutput::default()
    })
}

pub(super) async fn delete(folder: &Folder, input: DeleteObjectsInput) -> S3Result<DeleteObjectsOutput> {
    let quiet = input.delete.quiet.unwrap_or_default();
    let bypass = input.bypass_governance_retention == Some(true);
    let outcomes = folder
        .with(move |objects| {
            objects.bucket(&input.bucket)?;
            let remove = |object: dto::ObjectIdentifier| {
                let removed = objects.remove(&input.bucket, &object.key, object.version_id.as_deref(), bypass);
                (object, removed)
            };
            Ok(input.delete.objects.into_iter().map(remove).collect::<Vec<_>>())
        })
        .await?;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (object, removed) in outcomes {
        let key = Some(object.key);
        match removed {
            Ok(Removed { version, is_marker }) => {
                let is_made = object.version_id.is_none();
                deleted.push(DeletedObject {
                    key,
                    delete_marker: is_marker.then_some(true),
                    delete_marker_version_id: version.filter(|_| is_made && is_marker),
                    version_id: object.version_id,
                });
            }
            Err(error) => errors.push(Error {
                key,
                version_id: object.version_id,
                code: Some(error.code().as_str().to_owned()),
                message: error.message().map(str::to_owned),
            }),
        }
    }
    Ok(DeleteObjectsOutput {
        deleted: (!quiet).then_some(deleted),
        errors: Some(errors),
        ..DeleteObjectsOutput::default()
    })
}

pub(super) async fn lock(
    folder: &Folder,
    input: GetObjectLockConfigurationInput,
) -> S3Result<GetObjectLockConfigurationOutput> {
    let settings = folder.with(move |objects| objects.settings(&input.bucket)).await?;
    let Some(lock) = settings.lock else {
        return Err(s3_error!(ObjectLockConfigurationNotFoundError, "the bucket has no object lock"));
    };
    let rule = lock.default.map(|default| {
        let (days, years) = match default.length {
            Length::Days(days) => (Some(days), None),
            Length::Years(years) => (None, Some(years)),
        };
        let mode = Some(ObjectLockRetentionMode::from_static(default.mode.as_str()));
        ObjectLockRule { default_retention: Some(DefaultRetention { mode, days, years }) }
    });
    let object_lock_enabled = Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED));
    Ok(GetObjectLockConfigurationOutput {
        object_lock_configuration: Some(ObjectLockConfiguration { object_lock_enabled, rule }),
    })
}

pub(super) async fn set_lock(
    folder: &Folder,
    input: PutObjectLockConfigurationInput,
) -> S3Result<PutObjectLockConfigurationOutput> {
    let rule = input.object_lock_configuration.and_then(|configuration| configuration.rule);
    let default = match rule.and_then(|rule| rule.default_retention) {
        None => None,
        Some(default) => {
            let mode = Mode::parse(default.mode.as_ref().map(ObjectLockRetentionMode::as_str).unwrap_or_default())?;
            let length = match (default.days, default.years) {
                (Some(days), None) if days > 0 => Length::Days(days),
                (None, Some(years)) if years > 0 => Length::Years(years),
                _ => return Err(s3_error!(MalformedXML, "the retention has either days or years, above 0")),
            };
            Some(protection::DefaultRetention { mode, length })
        }
    };
    folder
        .with(move |objects| {
            objects.set(&input.bucket, |settings| {
                if settings.lock.is_none() {
                    return Err(s3_error!(InvalidBucketState, "object lock is asked for when a bucket is made"));
                }
                settings.lock = Some(Lock { default });
                Ok(())
            })
        })
        .await?;
    Ok(PutObjectLockConfigurationOutput::default())
}

pub(super) async fn retention(folder: &Folder, input: GetObjectRetentionInput) -> S3Result<GetObjectRetentionOutput> {
    let found = folder
        .with(move |objects| {
            objects.settings(&input.bucket)?.check_lock()?;
            Ok(objects.version(&input.bucket, &input.key, input.version_id.as_deref())?.meta.protection.retention)
        })
        .await?;
    let Some(found) = found else {
        return Err(s3_error!(NoSuchObjectLockConfiguration, "the object has no retention"));
    };
    let mode = Some(ObjectLockRetentionMode::from_static(found.mode.as_str()));
    let retention = ObjectLockRetention { mode, retain_until_date: Some(found.until()) };
    Ok(GetObjectRetentionOutput { retention: Some(retention) })
}

pub(super) async fn retain(folder: &Folder, input: PutObjectRetentionInput) -> S3Result<PutObjectRetentionOutput> {
    let bypass = input.bypass_governance_retention == Some(true);
    let wished = input.retention.unwrap_or_default();
    let mode = wished.mode.as_ref().map(ObjectLockRetentionMode::as_str);
    let wished = Retention::parse(mode, wished.retain_until_date.as_ref())?;
    folder
        .with(move |objects| {
            let version = input.version_id.as_deref();
            objects.protect(&input.bucket, &input.key, version, |protection| protection.retain(wished, bypass))
        })
        .await?;
    Ok(PutObjectRetentionOutput::default())
}

pub(super) async fn held(folder: &Folder, input: GetObjectLegalHoldInput) -> S3Result<GetObjectLegalHoldOutput> {
    let found = folder
        .with(move |objects| {
            objects.settings(&input.bucket)?.check_lock()?;
            Ok(objects.version(&input.bucket, &input.key, input.version_id.as_deref())?.meta.protection.legal_hold)
        })
        .await?;
    let Some(found) = found else {
        return Err(s3_error!(NoSuchObjectLockConfiguration, "the object never had a legal hold"));
    };
    Ok(GetObjectLegalHoldOutput { legal_hold: Some(ObjectLockLegalHold { status: Some(status(found)) }) })
}

pub(super) async fn hold(folder: &Folder, input: PutObjectLegalHoldInput) -> S3Result<PutObjectLegalHoldOutput> {
    let status = input.legal_hold.and_then(|hold| hold.status);
    let hold = match status.as_ref().map(ObjectLockLegalHoldStatus::as_str) {
        Some(ObjectLockLegalHoldStatus::ON) => true,
        Some(ObjectLockLegalHoldStatus::OFF) => false,
        _ => return Err(s3_error!(MalformedXML, "the status is ON or OFF")),
    };
    folder
        .with(move |objects| {
            objects.protect(&input.bucket, &input.key, input.version_id.as_deref(), |protection| {
                protection.legal_hold = Some(hold);
                Ok(())
            })
        })
        .await?;
    Ok(PutObjectLegalHoldOutput::default())
}

pub(super) fn status(hold: bool) -> ObjectLockLegalHoldStatus {
    let status = if hold { ObjectLockLegalHoldStatus::ON } else { ObjectLockLegalHoldStatus::OFF };
    ObjectLockLegalHoldStatus::from_static(status)
}
