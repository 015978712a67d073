"""Stores of objects: a local folder, or a bucket of R2, MinIO or S3. Knows bytes and keys only.

    from engine.storage import open_store, user_key

    store = open_store(folder)  # the bucket in the environment's R2_* variables, else the folder
    store.put_file(user_key("7", "exports", "reel.mp4"), Path("reel.mp4"))

Stores are values: picklable, cheap to make, safe to share between threads and processes.
"""

from engine.storage.cached_store import CachedStore as CachedStore
from engine.storage.cached_store import cached as cached
from engine.storage.keys import checked_key as checked_key
from engine.storage.keys import folder_prefix as folder_prefix
from engine.storage.keys import user_key as user_key
from engine.storage.local import LocalStore as LocalStore
from engine.storage.objects import ObjectInfo as ObjectInfo
from engine.storage.objects import ObjectReader as ObjectReader
from engine.storage.objects import Store as Store
from engine.storage.objects import StoredObject as StoredObject
from engine.storage.s3 import S3Settings as S3Settings
from engine.storage.s3 import S3Store as S3Store
from engine.storage.s3 import redacted as redacted
from engine.storage.settings import open_store as open_store
from engine.storage.settings import s3_settings as s3_settings
