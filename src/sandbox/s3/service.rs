//! The S3 operations, over [`Objects`].

use std::{
    io::{Read, Seek, SeekFrom},
    sync::Arc,
    time::SystemTime,
};

use s3s::{
    S3, S3Request, S3Response, S3Result,
    dto::{
        self, AbortMultipartUploadInput, AbortMultipartUploadOutput, Bucket, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopyPartResult,
        CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
        DeleteBucketInput, DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
        DeleteObjectsOutput, DeletedObject, ETag, GetBucketLocationInput, GetBucketLocationOutput,
        GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectInput, GetObjectOutput, HeadBucketInput,
        HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput,
        ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
        ListObjectsV2Output, ListPartsInput, ListPartsOutput, MetadataDirective, MultipartUpload, Part, PutObjectInput,
        PutObjectOutput, StreamingBlob, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
    },
    s3_error,
};

use super::{
    answers::{Page, Wish, answer, body, part, signed, source, spell, spelled_as_url},
    blocking,
    faults::Faults,
    key,
    objects::{Conditions, Described, Objects, broken, hash},
    receive::{Promised, receive},
};

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
}

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
        let bucket = request.input.bucket;
        let location = format!("/{bucket}");
        self.with(move |objects| objects.create_bucket(&bucket)).await?;
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

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.with(move |objects| objects.bucket(&request.input.bucket)).await?;
        // No status: the bucket was never versioned.
        answer(GetBucketVersioningOutput::default())
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.with(move |objects| objects.delete_bucket(&request.input.bucket)).await?;
        answer(DeleteBucketOutput::default())
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let promised = Promised::of(&request);
        let input = request.input;
        let described = described!(input);
        let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
        let (bucket, key) = (input.bucket, input.key);
        let exists = bucket.clone();
        self.with(move |objects| objects.bucket(&exists)).await?;
        let body = receive(&self.objects, input.body, input.content_length, promised).await?;
        let commit =
            move |objects: &Objects| objects.commit(&bucket, &key, body.file, body.etag, described, &conditions);
        let meta = self.with(commit).await?;
        answer(PutObjectOutput { e_tag: Some(ETag::Strong(meta.etag)), ..PutObjectOutput::default() })
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let (bucket, key, range) = (input.bucket, input.key.clone(), input.range);
        let (file, meta, range) = self
            .with(move |objects| {
                let (mut file, meta) = objects.find(&bucket, &key)?;
                let range = part(range, meta.size)?;
                let start = range.as_ref().map_or(0, |range| range.start);
                file.seek(SeekFrom::Start(start)).map_err(broken)?;
                Ok((file, meta, range))
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
        answer(GetObjectOutput {
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
        let (bucket, key) = (input.bucket, input.key);
        let meta = self.with(move |objects| Ok(objects.find(&bucket, &key)?.1)).await?;
        Wish {
            matching: input.if_match,
            other: input.if_none_match,
            since: input.if_modified_since,
            until: input.if_unmodified_since,
        }
        .check(&meta)?;
        let described = meta.described.clone();
        answer(HeadObjectOutput {
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
        self.with(move |objects| objects.remove(&input.bucket, &input.key)).await?;
        answer(DeleteObjectOutput::default())
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        let quiet = input.delete.quiet.unwrap_or_default();
        let keys: Vec<_> = input.delete.objects.into_iter().map(|object| object.key).collect();
        let deleted = self
            .with(move |objects| {
                for key in &keys {
                    objects.remove(&input.bucket, key)?;
                }
                Ok(keys)
            })
            .await?;
        let deleted = deleted.into_iter().map(|key| DeletedObject { key: Some(key), ..DeletedObject::default() });
        answer(DeleteObjectsOutput { deleted: (!quiet).then(|| deleted.collect()), ..DeleteObjectsOutput::default() })
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = request.input;
        let (from_bucket, from) = source(input.copy_source)?;
        let replaced = input.metadata_directive.is_some_and(|how| how.as_str() == MetadataDirective::REPLACE);
        let described = replaced.then(|| described!(input));
        let wish = Wish {
            matching: input.copy_source_if_match,
            other: input.copy_source_if_none_match,
            since: input.copy_source_if_modified_since,
            until: input.copy_source_if_unmodified_since,
        };
        let copy = move |objects: &Objects| {
            let (mut source, meta) = objects.find(&from_bucket, &from)?;
            wish.check(&meta)?;
            objects.bucket(&input.bucket)?;
            let mut file = objects.temporary()?;
            std::io::copy(&mut source, file.as_file_mut()).map_err(broken)?;
            let described = described.unwrap_or(meta.described);
            objects.commit(&input.bucket, &input.key, file, meta.etag, described, &Conditions::default())
        };
        let meta = self.with(copy).await?;
        let result = CopyObjectResult {
            last_modified: Some(meta.modified().into()),
            e_tag: Some(ETag::Strong(meta.etag)),
            ..CopyObjectResult::default()
        };
        answer(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() })
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
        let input = request.input;
        let described = described!(input);
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let id = self.with(move |objects| objects.start_upload(&bucket, &key, described)).await?;
        answer(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        })
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let promised = Promised::of(&request);
        let input = request.input;
        let body = receive(&self.objects, input.body, input.content_length, promised).await?;
        let etag = body.etag.clone();
        let keep = move |objects: &Objects| {
            objects.keep_part((&input.bucket, &input.key, &input.upload_id), input.part_number, body.file, &body.etag)
        };
        self.with(keep).await?;
        answer(UploadPartOutput { e_tag: Some(ETag::Strong(etag)), ..UploadPartOutput::default() })
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = request.input;
        let (from_bucket, from) = source(input.copy_source)?;
        let range = input.copy_source_range.map(|range| dto::Range::parse(&range)).transpose();
        let range = range.map_err(|_| s3_error!(InvalidArgument, "the range must be bytes=first-last"))?;
        let copy = move |objects: &Objects| {
            let (mut from, meta) = objects.find(&from_bucket, &from)?;
            let range = part(range, meta.size)?.unwrap_or(0..meta.size);
            from.seek(SeekFrom::Start(range.start)).map_err(broken)?;
            let mut file = objects.temporary()?;
            std::io::copy(&mut from.take(range.end - range.start), file.as_file_mut()).map_err(broken)?;
            file.rewind().map_err(broken)?;
            let etag = hash(file.as_file())?;
            let upload = (input.bucket.as_str(), input.key.as_str(), input.upload_id.as_str());
            objects.keep_part(upload, input.part_number, file, &etag)?;
            Ok(etag)
        };
        let result = CopyPartResult {
            e_tag: Some(ETag::Strong(self.with(copy).await?)),
            last_modified: Some(SystemTime::now().into()),
            ..CopyPartResult::default()
        };
        answer(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() })
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let url = spelled_as_url(input.encoding_type.as_ref());
        let (bucket, prefix) = (input.bucket.clone(), input.prefix.clone().unwrap_or_default());
        let uploads = self.with(move |objects| objects.uploads(&bucket, &prefix)).await?;
        let uploads = uploads.into_iter().map(|upload| MultipartUpload {
            key: Some(spell(url, upload.key)),
            upload_id: Some(upload.id),
            initiated: Some(upload.started.into()),
            ..MultipartUpload::default()
        });
        answer(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            is_truncated: Some(false),
            bucket: Some(input.bucket),
            prefix: input.prefix,
            encoding_type: input.encoding_type,
            ..ListMultipartUploadsOutput::default()
        })
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let (bucket, key, id) = (input.bucket.clone(), input.key.clone(), input.upload_id.clone());
        let arrived = self.with(move |objects| objects.parts(&bucket, &key, &id)).await?;
        let marker = input.part_number_marker.unwrap_or_default();
        let max = input.max_parts.unwrap_or(1000).clamp(0, 1000);
        let mut rest = arrived.into_iter().filter(|part| part.number > marker).map(|part| Part {
            part_number: Some(part.number),
            e_tag: Some(ETag::Strong(part.etag)),
            size: Some(signed(part.size)),
            last_modified: Some(part.modified.into()),
            ..Part::default()
        });
        let parts: Vec<_> = rest.by_ref().take(usize::try_from(max).unwrap_or_default()).collect();
        answer(ListPartsOutput {
            is_truncated: Some(rest.next().is_some()),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            part_number_marker: input.part_number_marker,
            max_parts: Some(max),
            parts: Some(parts),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        })
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let named: Vec<_> = named
            .into_iter()
            .map(|part| (part.part_number.unwrap_or_default(), part.e_tag.map(ETag::into_value)))
            .collect();
        let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
        let (bucket, key, id) = (input.bucket.clone(), input.key.clone(), input.upload_id);
        let meta = self.with(move |objects| objects.complete_upload((&bucket, &key, &id), &named, &conditions)).await?;
        answer(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(meta.etag)),
            ..CompleteMultipartUploadOutput::default()
        })
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.with(move |objects| objects.abort_upload(&input.bucket, &input.key, &input.upload_id)).await?;
        answer(AbortMultipartUploadOutput::default())
    }
}
