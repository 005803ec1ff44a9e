"""What Barman's tools and other boto3 users ask of a store; any deviation ends with a traceback."""
import io
import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

# Set where the server wants to see a certificate.
own = (os.environ["CLIENT_CERT"], os.environ["CLIENT_KEY"]) if "CLIENT_CERT" in os.environ else None
s3 = boto3.client(
    "s3",
    endpoint_url=os.environ["ENDPOINT"],
    config=Config(
        s3={"addressing_style": "path"}, retries={"max_attempts": 5, "mode": "standard"}, client_cert=own),
)
parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=3)
body = os.urandom(12 << 20)


def code(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    return None


def upload():
    extra = {"ServerSideEncryption": "AES256", "Tagging": "team=a%20b"}
    try:
        s3.upload_fileobj(io.BytesIO(body), "bucket", "big", ExtraArgs=extra, Config=parts)
    except ClientError as error:
        # A completion whose answer was lost finds no upload when it is repeated; the object is there.
        assert error.response["Error"]["Code"] == "NoSuchUpload", error


def everything():
    s3.head_bucket(Bucket="bucket")
    upload()
    out = io.BytesIO()
    s3.download_fileobj("bucket", "big", out, Config=parts)
    assert out.getvalue() == body
    head = s3.head_object(Bucket="bucket", Key="big")
    assert head["ContentLength"] == len(body) and head["ServerSideEncryption"] == "AES256", head
    tags = s3.get_object_tagging(Bucket="bucket", Key="big")["TagSet"]
    assert tags == [{"Key": "team", "Value": "a b"}], tags

    key = "dir/small key+1"
    s3.put_object(
        Bucket="bucket", Key=key, Body=io.BytesIO(b"hello"), Metadata={"who": "me"},
        ServerSideEncryption="aws:kms", SSEKMSKeyId="arn:aws:kms:x",
    )
    got = s3.get_object(Bucket="bucket", Key=key)
    assert got["Body"].read() == b"hello" and got["Metadata"] == {"who": "me"}, got
    assert got["ServerSideEncryption"] == "aws:kms" and got["SSEKMSKeyId"] == "arn:aws:kms:x", got
    got = s3.get_object(Bucket="bucket", Key=key, Range="bytes=1-2")
    assert got["Body"].read() == b"el" and got["ContentRange"] == "bytes 1-2/5", got
    for algorithm in ("CRC32", "SHA1", "SHA256"):
        s3.put_object(Bucket="bucket", Key="sum/" + algorithm, Body=b"x" * 9, ChecksumAlgorithm=algorithm)
        assert s3.get_object(Bucket="bucket", Key="sum/" + algorithm)["Body"].read() == b"x" * 9
    s3.put_object_tagging(Bucket="bucket", Key=key, Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    assert s3.get_object_tagging(Bucket="bucket", Key=key)["TagSet"] == [{"Key": "a", "Value": "1"}]

    assert code(s3.get_object, Bucket="bucket", Key="none") == ("NoSuchKey", 404)
    assert code(s3.head_object, Bucket="bucket", Key="none") == ("404", 404)
    assert code(s3.list_objects_v2, Bucket="no-bucket") == ("NoSuchBucket", 404)
    assert code(s3.put_object, Bucket="bucket", Key=key, Body=b"", IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert code(s3.get_object, Bucket="bucket", Key=key, Range="bytes=99-") == ("InvalidRange", 416)
    assert code(s3.put_object, Bucket="bucket", Key="bad", Body=b"x", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==") == (
        "BadDigest", 400)
    assert code(s3.create_bucket, Bucket="bucket") == ("BucketAlreadyOwnedByYou", 409)

    many = [f"many/{i % 3}/{i:03}" for i in range(30)]
    for name in many:
        s3.put_object(Bucket="bucket", Key=name, Body=b"")
    for operation in ("list_objects_v2", "list_objects"):
        pages = s3.get_paginator(operation).paginate(
            Bucket="bucket", Prefix="many/", PaginationConfig={"PageSize": 7})
        assert [o["Key"] for page in pages for o in page["Contents"]] == sorted(many), operation
        pages = s3.get_paginator(operation).paginate(
            Bucket="bucket", Prefix="many/", Delimiter="/", PaginationConfig={"PageSize": 2})
        prefixes = [p["Prefix"] for page in pages for p in page.get("CommonPrefixes", [])]
        assert prefixes == ["many/0/", "many/1/", "many/2/"], (operation, prefixes)
    spelled = s3.list_objects_v2(Bucket="bucket", Prefix="dir/small k")["Contents"]
    assert [o["Key"] for o in spelled] == [key], spelled
    answer = s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": k} for k in many]})
    assert len(answer["Deleted"]) == 30 and "Errors" not in answer, answer

    s3.copy_object(Bucket="bucket", Key="copy", CopySource={"Bucket": "bucket", "Key": key})
    assert s3.get_object(Bucket="bucket", Key="copy")["Body"].read() == b"hello"
    s3.delete_object(Bucket="bucket", Key="copy")

    started = s3.create_multipart_upload(Bucket="bucket", Key="left")
    sent = s3.upload_part(Bucket="bucket", Key="left", UploadId=started["UploadId"], PartNumber=3, Body=b"abc")
    copied = s3.upload_part_copy(
        Bucket="bucket", Key="left", UploadId=started["UploadId"], PartNumber=4,
        CopySource={"Bucket": "bucket", "Key": "big"}, CopySourceRange="bytes=0-9")
    listed = s3.list_parts(Bucket="bucket", Key="left", UploadId=started["UploadId"])["Parts"]
    assert [(p["PartNumber"], p["Size"], p["ETag"]) for p in listed] == [
        (3, 3, sent["ETag"]), (4, 10, copied["CopyPartResult"]["ETag"])], listed
    uploads = s3.list_multipart_uploads(Bucket="bucket")["Uploads"]
    assert [(u["Key"], u["UploadId"]) for u in uploads] == [("left", started["UploadId"])], uploads
    wrong = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}
    assert code(s3.complete_multipart_upload, Bucket="bucket", Key="left", UploadId=started["UploadId"],
                MultipartUpload=wrong) == ("InvalidPart", 400)
    s3.abort_multipart_upload(Bucket="bucket", Key="left", UploadId=started["UploadId"])
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")
    assert code(s3.abort_multipart_upload, Bucket="bucket", Key="left", UploadId=started["UploadId"]) == (
        "NoSuchUpload", 404)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": key})
    import ssl
    import urllib.request
    context = None
    if own:
        context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
        context.load_cert_chain(*own)
    assert urllib.request.urlopen(url, context=context).read() == b"hello"


{"everything": everything, "upload": upload}[sys.argv[1]]()
