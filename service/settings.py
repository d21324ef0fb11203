"""Every setting of the service, once: environment variable, unit, default, bound and what happens beyond it.

Depends on pydantic-settings, the defaults and the checks. Built at the entry point (environment.py) and passed down.
"""

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service import setting_checks, setting_defaults

LEAST_RATE = 1e-6  # items a second: of less, no client could be told when to come again

PREFIX = "RECO_"

MIB = 1024 * 1024


class SettingsError(Exception):
    """A setting is unknown, missing or out of bounds; the message names it and what would be accepted."""

    code = "settings_invalid"  # the command line ends with one sentence for errors that have a code


class Settings(BaseSettings):
    """Settings of one service process. Each field is also the variable `RECO_<FIELD>` in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    host: str = Field(
        "127.0.0.1", description="Address to listen on. Beyond loopback anybody may ask: a warning says so."
    )
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 lets the system choose one.")
    operator_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None,
        description="A port of its own for probes, metrics and operator routes, which then leave the main port "
        "(the probes stay there too).",
    )
    operator_host: str = Field("127.0.0.1", description="Address that RECO_OPERATOR_PORT listens on.")
    trusted_proxies: str | None = Field(
        None,
        description="Addresses or networks of reverse proxies, separated by commas, whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed; nobody's if not set.",
    )
    allowed_hosts: str | None = Field(
        None,
        description="Names, separated by commas, that a request may be addressed to where no key is needed (421 "
        "otherwise; `*` is any), besides addresses and names like localhost. If not set: none on loopback, any beyond.",
    )
    cors_origins: str | None = Field(
        None,
        description="Origins, separated by commas, whose web pages may ask with their visitors' browsers, like "
        "https://app.example.com; `*` is any, where no key is needed. None if not set.",
    )
    api_keys: SecretStr | None = Field(
        None,
        description="API keys, separated by semicolons: NAME SCOPES sha256:HEX, or a key alone. Without any key, "
        "the service is open.",
    )
    api_keys_file: str | None = Field(
        None, description="File of API keys, a line each, as `reco key new` makes them; read again on SIGHUP."
    )
    metrics_need_key: bool = Field(False, description="Whether /metrics takes a key like any other route.")
    rate_limit: Annotated[float, Field(ge=LEAST_RATE, allow_inf_nan=False)] | None = Field(
        None,
        description="Items a second of one key (429 beyond it), or of one client address where no key is needed; "
        "none if not set. A key's own `rate=` comes first.",
    )
    rate_burst_s: float = Field(
        2.0, gt=0, le=3600, allow_inf_nan=False, description="Seconds of RECO_RATE_LIMIT that may be spent at once."
    )
    max_concurrency: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Requests one key, or one client address, may have under way (429); none if not set."
    )
    log_format: Literal["text", "json"] = Field("text", description="One line per request, as text or as JSON.")

    model: str = Field(min_length=1, description="open_clip architecture, or a local model directory.")
    pretrained: str | None = Field(None, description="open_clip's name of the weights; none for a local directory.")
    memory: str = Field(
        min_length=1,
        description="Directory of the memory, or its address in an object store (docs/object-stores.md).",
    )
    allow_remote: Annotated[str, Field(pattern=r"^[a-z0-9]+([ ,]+[a-z0-9]+)*$")] | None = Field(
        None,
        description="Schemes of object stores that RECO_MEMORY may name, like s3; none if not set. Nothing that a "
        "request names is ever fetched.",
    )
    remote_cache: str = Field(
        default_factory=setting_defaults.remote_cache,
        description="Directory that a memory in an object store is copied to before it is opened.",
    )
    backend: Literal["faiss", "milvus"] = Field(
        "faiss", description="Where the memory is kept; with milvus, RECO_MEMORY is its name there (docs/milvus.md)."
    )
    milvus_uri: str | None = Field(None, description="Address of Milvus, like http://127.0.0.1:19530.")
    milvus_token: SecretStr | None = Field(None, description="Milvus' user:password or API key.")
    milvus_token_file: str | None = Field(None, description="File that holds it, instead.")
    milvus_timeout_s: float = Field(
        2.0, gt=0, le=600, allow_inf_nan=False, description="Seconds one search in Milvus may take, retries included."
    )
    memory_away: Literal["refuse", "plain"] = Field(
        "refuse",
        description="When the memory is kept elsewhere and does not answer: refuse (503), or plain: the frozen "
        "encoder's embeddings, marked degraded.",
    )
    watch_memory_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Seconds between two looks for a newer version of the memory, which is then opened as on SIGHUP; "
        "none if not set.",
    )
    stamps: str = Field(
        default_factory=setting_defaults.stamps,
        description="Directory that remembers which memory files this host has hashed already.",
    )
    fusion: str | None = Field(
        None, description="Directory of the fusion checkpoint. Without one, answers are the frozen encoder's."
    )
    samples: str | None = Field(
        None, description="Folder of pictures that the page offers to try (up to 48; samples.json names labels)."
    )
    label_sets: str | None = Field(
        None, description="Folder of label sets that /classify can name: NAME.json or NAME.txt, a label a line."
    )
    evaluation: str | None = Field(
        None,
        description="Folder that `reco eval -o` wrote, for the page; `evaluation` in the fusion's folder if not set.",
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto", description="auto, cpu, cuda or cuda:N."
    )
    search_device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = Field(
        "auto",
        description="Where the memory is searched: auto (the encoder's GPU if faiss-gpu is there and the memory fits, "
        "else the CPU), cpu, or cuda or cuda:N, which refuse a memory that does not fit (docs/gpu.md).",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="auto (bfloat16 where the device multiplies in it, else float32), float32, bfloat16 or float16.",
    )
    int8_pictures: str | None = Field(
        None,
        description="Folder of at least 32 pictures like those you embed: on a CPU the image tower then computes in 8 "
        "bits, fitted on half of them and refused unless each of the others keeps cosine 0.99 to float32.",
    )
    preprocess: Literal["fast", "exact"] = Field(
        "fast",
        description="Who resizes images: exact is open_clip's transform bit for bit, fast agrees to cosine 0.9999.",
    )
    served_model_name: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,200}$")] | None = Field(
        None, description="Name of the model in answers; the encoder's own name if not set."
    )
    k: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Neighbours per query when a request names none; the fusion checkpoint's own if not set.",
    )

    max_body_bytes: int = Field(64 * MIB, ge=1024, description="Request body, bytes; a larger one is refused (413).")
    max_inflight_bytes: int = Field(
        512 * MIB,
        ge=1024,
        description="Request bodies held at once, bytes; what comes beyond them is refused (503). At least "
        "RECO_MAX_BODY_BYTES.",
    )
    max_image_bytes: int = Field(20 * MIB, ge=64, description="One encoded image, bytes (413).")
    max_image_pixels: int = Field(50_000_000, ge=1, description="One image, pixels by its header (413).")
    max_inflight_pixels: int = Field(
        default_factory=setting_defaults.inflight_pixels,
        ge=1,
        description="Pixels of images accepted and not decoded yet, by their headers; while there are so many, "
        "requests with images are refused (503). By default what the decoders do in about seven seconds: 560 million "
        "for each.",
    )
    max_images: int = Field(64, ge=1, le=4096, description="Images in one request (422).")
    max_texts: int = Field(256, ge=1, le=4096, description="Texts in one request (422).")
    max_text_characters: int = Field(
        2000,
        ge=1,
        le=20_000,
        description="Characters of one text (422).",
    )
    max_labels: int = Field(1000, ge=1, le=20_000, description="Labels in one classification (422).")
    max_label_characters: int = Field(200, ge=1, le=20_000, description="Characters of one label (422).")
    max_templates: int = Field(20, ge=1, le=1000, description="Templates in one classification (422).")
    max_class_texts: int = Field(
        5000, ge=1, description="Labels × templates of one classification, in texts to encode (422)."
    )
    class_cache_bytes: int = Field(
        64 * MIB,
        ge=0,
        description="Class embeddings of /classify kept for the next request, bytes, half of them for label sets with "
        "this memory, half for labels without; 0 keeps none.",
    )
    max_k: int = Field(100, ge=1, le=2048, description="Neighbours a request may ask for (422).")

    max_connections: int = Field(
        2500,
        ge=1,
        description="Connections open at once; one more has that which was idle longest closed, or is refused (503). "
        "More than both queues hold: what has no room in them is refused on a connection that is there, for less.",
    )
    keep_alive_s: float = Field(
        75.0, gt=0, le=3600, allow_inf_nan=False, description="Seconds an idle connection is kept. More than a proxy's."
    )
    header_timeout_s: float = Field(
        5.0, gt=0, le=3600, allow_inf_nan=False, description="Seconds a request's headers may take to arrive."
    )
    receive_timeout_s: float = Field(
        30.0, gt=0, le=3600, allow_inf_nan=False, description="Seconds its body may take after them (408)."
    )
    send_timeout_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds a client may take to read its answer; then the connection is cut.",
    )
    request_timeout_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds from the whole body received to the answer (504).",
    )
    max_queue_items: int = Field(
        1024,
        ge=1,
        description="Items accepted and not answered yet, images and texts apart (503 beyond it; 422 where one "
        "request holds more).",
    )
    max_batch_size: int = Field(64, ge=1, le=4096, description="Items encoded together.")
    max_batch_ms: float = Field(
        250.0,
        gt=0,
        allow_inf_nan=False,
        description="Milliseconds a batch should take at most, about: what a text may wait behind images. Four times "
        "as long where nothing of the other kind has come for ten seconds.",
    )
    concurrent_batches: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Batches computed at once, each with its share of RECO_THREADS (one that is alone has all); if not "
        "set, 2 on a CPU of two cores or more, else 1.",
    )
    hang_timeout_s: float = Field(
        30.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds after which a batch counts as hung: the process ends with exit code 70.",
    )
    decoding: Literal["auto", "threads", "processes"] = Field(
        "auto", description="Where images are decoded: threads, processes, or auto: processes beside a GPU."
    )
    decode_workers: int = Field(
        default_factory=setting_defaults.decode_workers,
        ge=1,
        le=256,
        description="Threads or processes that decode images; the cores it may use − 2.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Threads of the encoder on CPU, and of a search; if not set, one for each core that affinity and "
        "the container's quota leave, and no more than torch would take.",
    )
    drain_delay_s: float = Field(
        5.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds it goes on accepting after SIGTERM, unready, until load balancers have noticed.",
    )
    graceful_shutdown_s: int = Field(
        30,
        ge=1,
        le=3600,
        description="Seconds open requests get to finish, once it accepts no more, before they are cut.",
    )

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        setting_checks.check(self)
        return self

    @property
    def memory_is_remote(self) -> bool:
        """Whether RECO_MEMORY is an address, not a directory."""
        return "://" in self.memory

    @property
    def allowed_schemes(self) -> tuple[str, ...]:
        """RECO_ALLOW_REMOTE, taken apart."""
        return setting_defaults.schemes(self.allow_remote or "")

    @property
    def item_limits(self) -> dict[str, int]:
        """What an item was beyond, by the code of its refusal."""
        return {
            "text_too_long": self.max_text_characters,
            "image_too_large": self.max_image_bytes,
            "image_too_many_pixels": self.max_image_pixels,
        }

    @property
    def listens_beyond_loopback(self) -> bool:
        """Whether other machines can reach the port."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return True  # a host name: nobody here can tell, so it counts as reachable
