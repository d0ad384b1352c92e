//! The S3 operations, over [`Objects`].

use std::{
    io::{Seek, SeekFrom},
    sync::Arc,
};

use s3s::{
    S3, S3Request, S3Response, S3Result,
    dto::{
        self, AbortMultipartUploadInput, AbortMultipartUploadOutput, Bucket, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CreateBucketInput,
        CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput,
        DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, ETag,
        GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput,
        GetObjectInput, GetObjectLegalHoldInput, GetObjectLegalHoldOutput, GetObjectLockConfigurationInput,
        GetObjectLockConfigurationOutput, GetObjectOutput, GetObjectRetentionInput, GetObjectRetentionOutput,
        HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput,
        ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectVersionsInput, ListObjectVersionsOutput,
        ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput,
        MetadataDirective, ObjectLockLegalHoldStatus, ObjectLockMode, PutBucketVersioningInput,
        PutBucketVersioningOutput, PutObjectInput, PutObjectLegalHoldInput, PutObjectLegalHoldOutput,
        PutObjectLockConfigurationInput, PutObjectLockConfigurationOutput, PutObjectOutput, PutObjectRetentionInput,
        PutObjectRetentionOutput, StreamingBlob, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
        UploadPartOutput,
    },
    s3_error,
};

use super::{
    answers::{Page, Wish, answer, body, part, signed, source, spell, spelled_as_url},
    blocking,
    faults::Faults,
    key,
    objects::{Conditions, Described, Meta, Objects, Written, broken},
    protection::{Lock, Settings, Versioning, wished},
    receive::{Promised, receive},
    versions::Removed,
};

/// What a request says about the object it writes. The inputs share these fields, but no type.
macro_rules! described {
    ($input:ident) => {
        Described {
            content_type: $input.content_type,
            content_encoding: $input.content_encoding,
            content_disposition: $input.content_disposition,
            content_language: $input.content_language,
            cache_control: $input.cache_control,
            user: $input.metadata.unwrap_or_default().into_iter().collect(),
        }
    };
}

/// How it wishes that object to be protected.
macro_rules! wished {
    ($input:ident) => {
        wished(
            $input.object_lock_mode.as_ref(),
            $input.object_lock_retain_until_date.as_ref(),
            $input.object_lock_legal_hold_status.as_ref(),
        )?
    };
}

mod multipart;
mod versions;

/// The storage as `s3s` calls it.
pub(super) struct Folder {
    objects: Arc<Objects>,
    faults: Faults,
}

impl Folder {
    pub(super) fn new(objects: Arc<Objects>, faults: Faults) -> Self {
        Self { objects, faults }
    }

    async fn with<T, W>(&self, work: W) -> S3Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Objects) -> S3Result<T> + Send + 'static,
    {
        let objects = Arc::clone(&self.objects);
        blocking(move || work(&objects)).await
    }

    /// What the answer to a read says of the lock: nothing to who may not ask for it.
    fn shown(&self, key: &str, meta: &Meta) -> ShownLock {
        let retention = meta.protection.retention.filter(|_| !self.faults.denies("GetObjectRetention", key));
        let hold = meta.protection.legal_hold.filter(|_| !self.faults.denies("GetObjectLegalHold", key));
        ShownLock {
            mode: retention.map(|retention| ObjectLockMode::from_static(retention.mode.as_str())),
            until: retention.map(|retention| retention.until()),
            hold: hold.map(versions::status),
        }
    }
}

/// The lock in the head of an answer.
struct ShownLock {
    mode: Option<ObjectLockMode>,
    until: Option<dto::Timestamp>,
    hold: Option<ObjectLockLegalHoldStatus>,
}

#[async_trait::async_trait]
impl S3 for Folder {
    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.with(Objects::buckets).await?;
        let buckets = buckets.into_iter().map(|(name, created)| Bucket {
            name: Some(name),
            creation_date: Some(created.into()),
            ..Bucket::default()
        });
        answer(ListBucketsOutput { buckets: Some(buckets.collect()), ..ListBucketsOutput::default() })
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let (bucket, has_lock) = (request.input.bucket, request.input.object_lock_enabled_for_bucket);
        let location = format!("/{bucket}");
        let create = move |objects: &Objects| {
            objects.create_bucket(&bucket)?;
            if has_lock != Some(true) {
                return Ok(());
            }
            objects.set(&bucket, |settings| {
                *settings = Settings { versioning: Some(Versioning::Enabled), lock: Some(Lock::default()) };
                Ok(())
            })
        };
        self.with(create).await?;
        answer(CreateBucketOutput { location: Some(location) })
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.with(move |objects| objects.bucket(&request.input.bucket)).await?;
        answer(HeadBucketOutput::default())
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.with(move |objects| objects.bucket(&request.input.bucket)).await?;
        // Absent means us-east-1; requests signed for any region are accepted.
        answer(GetBucketLocationOutput::default())
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.with(move |objects| objects.delete_bucket(&request.input.bucket)).await?;
        answer(DeleteBucketOutput::default())
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let promised = Promised::of(&request);
        let input = request.input;
        let protection = wished!(input);
        let described = described!(input);
        let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
        let (bucket, key) = (input.bucket, input.key);
        let exists = bucket.clone();
        let given = self.with(move |objects| objects.settings(&exists)?.protect(protection)).await?;
        if given.is_locked() && !promised.is_any() {
            return Err(s3_error!(
                InvalidRequest,
                "what is to be locked needs a Content-MD5 or an x-amz-checksum- header"
            ));
        }
        let body = receive(&self.objects, input.body, input.content_length, promised).await?;
        let commit = move |objects: &Objects| {
            let written = Written { etag: body.etag, described, protection };
            let meta = objects.commit(&bucket, &key, body.file, written, &conditions)?;
            Ok((objects.settings(&bucket)?.told(&meta), meta))
        };
        let (version_id, meta) = self.with(commit).await?;
        answer(PutObjectOutput { e_tag: Some(ETag::Strong(meta.etag)), version_id, ..PutObjectOutput::default() })
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let (bucket, key, range, version) = (input.bucket, input.key.clone(), input.range, input.version_id);
        let (file, meta, range, version_id) = self
            .with(move |objects| {
                let (mut file, meta) = objects.open_version(&bucket, &key, version.as_deref())?;
                let range = part(range, meta.size)?;
                let start = range.as_ref().map_or(0, |range| range.start);
                file.seek(SeekFrom::Start(start)).map_err(broken)?;
                let version = objects.settings(&bucket)?.told(&meta);
                Ok((file, meta, range, version))
            })
            .await?;
        Wish {
            matching: input.if_match,
            other: input.if_none_match,
            since: input.if_modified_since,
            until: input.if_unmodified_since,
        }
        .check(&meta)?;
        let length = range.as_ref().map_or(meta.size, |range| range.end - range.start);
        let described = meta.described.clone();
        let shown = self.shown(&input.key, &meta);
        answer(GetObjectOutput {
            version_id,
            object_lock_mode: shown.mode,
            object_lock_retain_until_date: shown.until,
            object_lock_legal_hold_status: shown.hold,
            accept_ranges: Some("bytes".into()),
            body: Some(StreamingBlob::wrap(self.faults.spoil(&input.key, length, body(file, length)))),
            content_length: Some(signed(length)),
            content_range: range.map(|range| format!("bytes {}-{}/{}", range.start, range.end - 1, meta.size)),
            content_type: described.content_type,
            content_encoding: described.content_encoding,
            content_disposition: described.content_disposition,
            content_language: described.content_language,
            cache_control: described.cache_control,
            metadata: Some(described.user.into_iter().collect()),
            last_modified: Some(meta.modified().into()),
            e_tag: Some(ETag::Strong(meta.etag)),
            ..GetObjectOutput::default()
        })
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let (bucket, key, version) = (input.bucket, input.key.clone(), input.version_id);
        let (meta, version_id) = self
            .with(move |objects| {
                let (_, meta) = objects.open_version(&bucket, &key, version.as_deref())?;
                Ok((meta.clone(), objects.settings(&bucket)?.told(&meta)))
            })
            .await?;
        Wish {
            matching: input.if_match,
            other: input.if_none_match,
            since: input.if_modified_since,
            until: input.if_unmodified_since,
        }
        .check(&meta)?;
        let described = meta.described.clone();
        let shown = self.shown(&input.key, &meta);
        answer(HeadObjectOutput {
            version_id,
            object_lock_mode: shown.mode,
            object_lock_retain_until_date: shown.until,
            object_lock_legal_hold_status: shown.hold,
            accept_ranges: Some("bytes".into()),
            content_length: Some(signed(meta.size)),
            content_type: described.content_type,
            content_encoding: described.content_encoding,
            content_disposition: described.content_disposition,
            content_language: described.content_language,
            cache_control: described.cache_control,
            metadata: Some(described.user.into_iter().collect()),
            last_modified: Some(meta.modified().into()),
            e_tag: Some(ETag::Strong(meta.etag)),
            ..HeadObjectOutput::default()
        })
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let bypass = input.bypass_governance_retention == Some(true);
        let remove =
            move |objects: &Objects| objects.remove(&input.bucket, &input.key, input.version_id.as_deref(), bypass);
        let Removed { version, is_marker } = self.with(remove).await?;
        answer(DeleteObjectOutput {
            delete_marker: is_marker.then_some(true),
            version_id: version,
            ..DeleteObjectOutput::default()
        })
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        answer(versions::delete(self, request.input).await?)
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = request.input;
        let (from_bucket, from, version) = source(input.copy_source)?;
        let protection = wished!(input);
        let replaced = input.metadata_directive.is_some_and(|how| how.as_str() == MetadataDirective::REPLACE);
        let described = replaced.then(|| described!(input));
        let wish = Wish {
            matching: input.copy_source_if_match,
            other: input.copy_source_if_none_match,
            since: input.copy_source_if_modified_since,
            until: input.copy_source_if_unmodified_since,
        };
        let copy = move |objects: &Objects| {
            let (mut source, meta) = objects.open_version(&from_bucket, &from, version.as_deref())?;
            wish.check(&meta)?;
            let (settings, from) = (objects.settings(&input.bucket)?, objects.settings(&from_bucket)?.told(&meta));
            let mut file = objects.temporary()?;
            std::io::copy(&mut source, file.as_file_mut()).map_err(broken)?;
            let described = described.unwrap_or(meta.described);
            let written = Written { etag: meta.etag, described, protection };
            let meta = objects.commit(&input.bucket, &input.key, file, written, &Conditions::default())?;
            Ok((settings.told(&meta), from, meta))
        };
        let (version_id, copy_source_version_id, meta) = self.with(copy).await?;
        let result = CopyObjectResult {
            last_modified: Some(meta.modified().into()),
            e_tag: Some(ETag::Strong(meta.etag)),
            ..CopyObjectResult::default()
        };
        answer(CopyObjectOutput {
            copy_object_result: Some(result),
            version_id,
            copy_source_version_id,
            ..CopyObjectOutput::default()
        })
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let after = match &input.continuation_token {
            Some(token) => key::from_token(token)
                .ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not from here"))?,
            None => input.start_after.clone().unwrap_or_default(),
        };
        let url = spelled_as_url(input.encoding_type.as_ref());
        let (bucket, prefix, delimiter) = (input.bucket.clone(), input.prefix.clone(), input.delimiter.clone());
        let page = self
            .with(move |objects| {
                Page::read(objects, &bucket, prefix.as_deref(), delimiter.as_deref(), &after, input.max_keys)
            })
            .await?;
        answer(ListObjectsV2Output {
            key_count: i32::try_from(page.entries.len()).ok(),
            max_keys: Some(page.max),
            is_truncated: Some(page.more()),
            next_continuation_token: page.next().map(key::to_token),
            contents: Some(page.objects(url)),
            common_prefixes: Some(page.prefixes(url)),
            name: Some(input.bucket),
            prefix: Some(spell(url, input.prefix.unwrap_or_default())),
            delimiter: input.delimiter.map(|delimiter| spell(url, delimiter)),
            start_after: input.start_after.map(|after| spell(url, after)),
            continuation_token: input.continuation_token,
            encoding_type: input.encoding_type,
            ..ListObjectsV2Output::default()
        })
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let after = input.marker.clone().unwrap_or_default();
        let url = spelled_as_url(input.encoding_type.as_ref());
        let (bucket, prefix, delimiter) = (input.bucket.clone(), input.prefix.clone(), input.delimiter.clone());
        let page = self
            .with(move |objects| {
                Page::read(objects, &bucket, prefix.as_deref(), delimiter.as_deref(), &after, input.max_keys)
            })
            .await?;
        answer(ListObjectsOutput {
            max_keys: Some(page.max),
            is_truncated: Some(page.more()),
            next_marker: page.next().map(|next| spell(url, next.to_owned())),
            contents: Some(page.objects(url)),
            common_prefixes: Some(page.prefixes(url)),
            name: Some(input.bucket),
            prefix: Some(spell(url, input.prefix.unwrap_or_default())),
            marker: Some(spell(url, input.marker.unwrap_or_default())),
            delimiter: input.delimiter.map(|delimiter| spell(url, delimiter)),
            encoding_type: input.encoding_type,
            ..ListObjectsOutput::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        answer(multipart::create(self, request.input).await?)
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        answer(multipart::upload(self, request).await?)
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        answer(multipart::upload_copy(self, request.input).await?)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        answer(multipart::uploads(self, request.input).await?)
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        answer(multipart::parts(self, request.input).await?)
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        answer(multipart::complete(self, request.input).await?)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.with(move |objects| objects.abort_upload(&input.bucket, &input.key, &input.upload_id)).await?;
        answer(AbortMultipartUploadOutput::default())
    }

    async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        answer(versions::set_versioning(self, request.input).await?)
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        answer(versions::versioning(self, request.input).await?)
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        answer(versions::list(self, request.input).await?)
    }

    async fn put_object_lock_configuration(
        &self,
        request: S3Request<PutObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<PutObjectLockConfigurationOutput>> {
        answer(versions::set_lock(self, request.input).await?)
    }

    async fn get_object_lock_configuration(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        answer(versions::lock(self, request.input).await?)
    }

    async fn put_object_retention(
        &self,
        request: S3Request<PutObjectRetentionInput>,
    ) -> S3Result<S3Response<PutObjectRetentionOutput>> {
        answer(versions::retain(self, request.input).await?)
    }

    async fn get_object_retention(
        &self,
        request: S3Request<GetObjectRetentionInput>,
    ) -> S3Result<S3Response<GetObjectRetentionOutput>> {
        answer(versions::retention(self, request.input).await?)
    }

    async fn put_object_legal_hold(
        &self,
        request: S3Request<PutObjectLegalHoldInput>,
    ) -> S3Result<S3Response<PutObjectLegalHoldOutput>> {
        answer(versions::hold(self, request.input).await?)
    }

    async fn get_object_legal_hold(
        &self,
        request: S3Request<GetObjectLegalHoldInput>,
    ) -> S3Result<S3Response<GetObjectLegalHoldOutput>> {
        answer(versions::held(self, request.input).await?)
    }
}
