//! Uploads in parts.

use std::{
    io::{Read, Seek, SeekFrom},
    time::SystemTime,
};

use s3s::{
    S3Request, S3Result,
    dto::{
        self, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyPartResult, CreateMultipartUploadInput,
        CreateMultipartUploadOutput, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput,
        ListPartsOutput, MultipartUpload, Part, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
        UploadPartOutput,
    },
    s3_error,
};

use super::{
    super::{
        answers::{part, signed, source, spell, spelled_as_url},
        objects::{Conditions, Described, Objects, broken, hash},
        protection::wished,
        receive::{Promised, receive},
    },
    Folder,
};

pub(super) async fn create(
    folder: &Folder,
    input: CreateMultipartUploadInput,
) -> S3Result<CreateMultipartUploadOutput> {
    let protection = wished!(input);
    let described = described!(input);
    let (bucket, key) = (input.bucket.clone(), input.key.clone());
    let id = folder.with(move |objects| objects.start_upload(&bucket, &key, described, protection)).await?;
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        ..CreateMultipartUploadOutput::default()
    })
}

pub(super) async fn upload(folder: &Folder, request: S3Request<UploadPartInput>) -> S3Result<UploadPartOutput> {
    let promised = Promised::of(&request);
    let input = request.input;
    let body = receive(&folder.objects, input.body, input.content_length, promised).await?;
    let etag = body.etag.clone();
    let keep = move |objects: &Objects| {
        objects.keep_part((&input.bucket, &input.key, &input.upload_id), input.part_number, body.file, &body.etag)
    };
    folder.with(keep).await?;
    Ok(UploadPartOutput { e_tag: Some(ETag::Strong(etag)), ..UploadPartOutput::default() })
}

pub(super) async fn upload_copy(folder: &Folder, input: UploadPartCopyInput) -> S3Result<UploadPartCopyOutput> {
    let (from_bucket, from, version) = source(input.copy_source)?;
    let range = input.copy_source_range.map(|range| dto::Range::parse(&range)).transpose();
    let range = range.map_err(|_| s3_error!(InvalidArgument, "the range must be bytes=first-last"))?;
    let copy = move |objects: &Objects| {
        let (mut from, meta) = objects.open_version(&from_bucket, &from, version.as_deref())?;
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
        e_tag: Some(ETag::Strong(folder.with(copy).await?)),
        last_modified: Some(SystemTime::now().into()),
        ..CopyPartResult::default()
    };
    Ok(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() })
}

pub(super) async fn uploads(folder: &Folder, input: ListMultipartUploadsInput) -> S3Result<ListMultipartUploadsOutput> {
    let url = spelled_as_url(input.encoding_type.as_ref());
    let (bucket, prefix) = (input.bucket.clone(), input.prefix.clone().unwrap_or_default());
    let uploads = folder.with(move |objects| objects.uploads(&bucket, &prefix)).await?;
    let uploads = uploads.into_iter().map(|upload| MultipartUpload {
        key: Some(spell(url, upload.key)),
        upload_id: Some(upload.id),
        initiated: Some(upload.started.into()),
        ..MultipartUpload::default()
    });
    Ok(ListMultipartUploadsOutput {
        uploads: Some(uploads.collect()),
        is_truncated: Some(false),
        bucket: Some(input.bucket),
        prefix: input.prefix,
        encoding_type: input.encoding_type,
        ..ListMultipartUploadsOutput::default()
    })
}

pub(super) async fn parts(folder: &Folder, input: ListPartsInput) -> S3Result<ListPartsOutput> {
    let (bucket, key, id) = (input.bucket.clone(), input.key.clone(), input.upload_id.clone());
    let arrived = folder.with(move |objects| objects.parts(&bucket, &key, &id)).await?;
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
    Ok(ListPartsOutput {
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

pub(super) async fn complete(
    folder: &Folder,
    input: CompleteMultipartUploadInput,
) -> S3Result<CompleteMultipartUploadOutput> {
    let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let named: Vec<_> = named
        .into_iter()
        .map(|part| (part.part_number.unwrap_or_default(), part.e_tag.map(ETag::into_value)))
        .collect();
    let conditions = Conditions { if_match: input.if_match, if_none_match: input.if_none_match };
    let (bucket, key, id) = (input.bucket.clone(), input.key.clone(), input.upload_id);
    let (etag, version) = folder
        .with(move |objects| {
            let meta = objects.complete_upload((&bucket, &key, &id), &named, &conditions)?;
            Ok((meta.etag.clone(), objects.settings(&bucket)?.told(&meta)))
        })
        .await?;
    Ok(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(ETag::Strong(etag)),
        version_id: version,
        ..CompleteMultipartUploadOutput::default()
    })
}
