"""Writes one S3 object to stdout: `python cat_s3.py s3://bucket/key`."""

import shutil
import sys

import boto3

bucket, _, key = sys.argv[1].removeprefix("s3://").partition("/")
shutil.copyfileobj(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"], sys.stdout.buffer, 2**20)
