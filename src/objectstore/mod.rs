//! S3 without Longhorn, and a local folder with the same interface.
