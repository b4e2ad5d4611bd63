"""One deployable piece as data: what `component.yaml` in a component's folder says.

Templates stand beside that file. A text marked *template* here is a Jinja2 template over the names listed in
docs/components.md and never sees the value of a secret (docs/decisions/0166).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, Strict, model_validator

from levier.domain.site import Role
from levier.domain.site_types import CredentialName, HostLabel, Line, pattern, refuse

_OCTAL = pattern(r"0[0-7]{3}", "a file mode", "four octal digits in quotes, such as '0640'")
_ABSOLUTE = pattern(r"/[^\s\0]*", "an absolute path", "a path that begins with '/'")
_WORD = pattern(r"[a-z][a-z0-9_]{0,62}", "a word", "lower-case letters, digits and underscores, a letter first")
_RELATIVE = pattern(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]*", "the name of a template", "a path below the folder")
_UNIT = pattern(
    r"[a-z0-9@_.-]+\.(service|socket|target|timer|path)", "a systemd unit", "a name such as levier-keystone.service"
)
_FAMILY = pattern(r"[a-z][a-z0-9-]*", "a family of operating systems", "a word such as debian")

Mode = Annotated[str, Strict(), AfterValidator(_OCTAL)]
AbsolutePath = Annotated[str, Strict(), AfterValidator(_ABSOLUTE)]
Word = Annotated[str, Strict(), AfterValidator(_WORD)]
TemplateName = Annotated[str, Strict(), AfterValidator(_RELATIVE)]
UnitName = Annotated[str, Strict(), AfterValidator(_UNIT)]
Family = Annotated[str, Strict(), AfterValidator(_FAMILY)]
HIGHEST_PORT = 65_535
Port = Annotated[int, Strict(), Field(ge=1, le=HIGHEST_PORT)]
TimeoutSeconds = Annotated[float, Strict(), Field(gt=0, le=86_400)]
Argv = Annotated[tuple[Annotated[str, Strict()], ...], Field(min_length=1)]
"""A program and its arguments, each a template; no shell reads them."""

MOST_OPEN_SECRET_MODE = 0o640


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Software(_Frozen):
    """Where the programs come from: the release bundle, packages of the distribution, or both."""

    bundle: Annotated[bool, Strict()] = False
    """The programs are in the release bundle; `/opt/levier/current/COMPONENT` links to it."""
    packages: dict[Family, tuple[Line, ...]] = Field(default_factory=dict)
    """Packages of the distribution by family or by its release, such as `debian: [memcached]` or `debian-12: [...]`."""

    def packages_on(self, os: str) -> tuple[str, ...]:
        """The packages on hosts with the operating system, such as `debian-12`: its family's and its own."""
        family = os.split("-", 1)[0]
        return (*self.packages.get(family, ()), *(self.packages.get(os, ()) if os != family else ()))


class SystemUser(_Frozen):
    """A user of the operating system, with a group of the same name."""

    name: Line
    """Login name."""
    groups: tuple[Line, ...] = ()
    """Further groups, which exist already or come with a package."""
    home: AbsolutePath = "/nonexistent"
    """Home directory."""
    shell: AbsolutePath = "/usr/sbin/nologin"
    """Login shell."""


class Directory(_Frozen):
    """A directory on the host."""

    path: AbsolutePath
    """Where it is."""
    owner: Line = "root"
    """Its owner."""
    group: Line = "root"
    """Its group."""
    mode: Mode = "0755"
    """Its permissions in octal."""


class SecretKind(StrEnum):
    """How a value of a secret is made."""

    PASSWORD = "password"  # noqa: S105 - a kind of secret, not one
    """32 letters and digits: 190 bits, safe in every configuration file and URL."""
    FERNET = "fernet"
    """A Fernet key: 32 random bytes in URL-safe base64."""
    CERTIFICATE = "certificate"
    """A key and a certificate for the public endpoints in PEM, signed by the site's own authority."""


class SecretSpec(_Frozen):
    """A secret that the component brings into the world; it is made once, when first needed."""

    name: CredentialName
    """Its name in the secret store."""
    values: dict[Word, SecretKind] = Field(default_factory=lambda: {"password": SecretKind.PASSWORD})
    """What it consists of."""


class FileFormat(StrEnum):
    """How a configuration file is written: what raw `config:` of the site file can be merged into."""

    OSLO = "oslo"
    """Sections of options, as oslo.config reads them; a list repeats the option."""
    INI = "ini"
    """Sections of options."""
    TEXT = "text"
    """Anything else; raw `config:` is refused."""


class FileSpec(_Frozen):
    """A configuration file."""

    path: AbsolutePath
    """Where it is on the host."""
    template: TemplateName
    """The template, below the component's folder or below `shared` beside it."""
    owner: Line = "root"
    """Its owner."""
    group: Line = "root"
    """Its group."""
    mode: Mode = "0644"
    """Its permissions in octal; 0640 or stricter where the file holds a secret."""
    format: FileFormat = FileFormat.TEXT
    """How it is written."""
    options: Word | None = None
    """Whose options an oslo file holds (`nova`, `neutron`): they are known per release and checked."""
    restarts: Annotated[bool, Strict()] = True
    """Whether the component's units are restarted when it changes."""

    @property
    def name(self) -> str:
        """The file's name, by which `config:` of the site file knows it."""
        return self.path.rsplit("/", 1)[-1]

    @model_validator(mode="after")
    def _checked_options(self) -> Self:
        if self.options and self.format is not FileFormat.OSLO:
            raise refuse("only a file of format oslo has known options", "expected format: oslo, or no options")
        return self


class UnitSpec(_Frozen):
    """A systemd unit that is enabled and runs; without a template it comes with a package."""

    name: UnitName
    """The unit's name."""
    template: TemplateName | None = None
    """The template of the unit file."""
    restarts: Annotated[bool, Strict()] = True
    """Whether it is restarted when one of the component's files changes; otherwise it is only enabled and started."""


class Database(_Frozen):
    """A database on the component that provides databases, and the user that owns it."""

    name: Word
    """The database's name."""
    user: Word
    """The user's name."""
    secret: CredentialName
    """The secret whose `password` is the user's."""


class MessageQueueUser(_Frozen):
    """A user of the message queue."""

    user: Word
    """The user's name."""
    vhost: Annotated[str, Strict()] = "/"
    """The virtual host in which the user may do everything; it is made where there is none."""
    secret: CredentialName
    """The secret whose `password` is the user's."""


class Endpoint(_Frozen):
    """Where a service of the catalogue listens, on every host that runs the component."""

    port: Port
    """TCP port of the service itself; plain HTTP, on the internal network."""
    public_port: Port
    """TCP port on which haproxy, where a host runs it, offers the service by TLS."""
    path: Annotated[str, Strict()] = ""
    """What follows the port in the catalogue's URLs."""


class CatalogService(_Frozen):
    """A service in keystone's catalogue, and its user."""

    type: Line
    """The service's type, such as `compute`."""
    name: Line
    """The service's name, such as `nova`."""
    description: Line
    """One line for people."""
    endpoint: Endpoint
    """Where it listens."""
    user: Word | None = None
    """The service's own user in the project `service`."""
    roles: tuple[Line, ...] = ("service", "admin")
    """What the user may do in that project."""
    secret: CredentialName | None = None
    """The secret whose `password` is the user's."""


class Command(_Frozen):
    """A program to run on a host."""

    command: Argv
    """The program and its arguments, each a template."""
    user: Line = "root"
    """Whom it runs as."""
    environment_file: AbsolutePath | None = None
    """A file of `NAME=value` lines it is started with: where secrets go, which no argument may carry."""
    timeout_s: TimeoutSeconds = 300.0
    """Seconds after which it counts as failed."""


class Moment(StrEnum):
    """When an action runs."""

    BEFORE_START = "before-start"
    """Before the component's units start."""
    AFTER_START = "after-start"
    """When the component is healthy on the host."""
    AFTER_JOIN = "after-join"
    """When hosts with another component (`joins`) have come; on one host at a time for the whole site."""


class Reach(StrEnum):
    """On how many hosts an action runs."""

    FIRST_HOST = "first-host"
    """On one of the component's hosts, for the whole site; never on two at once."""
    EVERY_HOST = "every-host"
    """On each of the component's hosts."""


class Action(Command):
    """Something to be done once, such as a schema."""

    name: HostLabel
    """Its name within the component."""
    summary: Line
    """What is true afterwards."""
    when: Moment
    """When it runs."""
    reach: Reach = Reach.FIRST_HOST
    """On how many hosts."""
    joins: HostLabel | None = None
    """The component whose new hosts it is for, with `when: after-join`."""
    done_when: Argv | None = None
    """A check with exit status 0 exactly when nothing is left to be done; without it the command itself is safe to
    repeat and says so by `repeatable`."""
    repeatable: Annotated[bool, Strict()] = False
    """Running the command again changes nothing."""
    retry_statuses: tuple[Annotated[int, Strict(), Field(ge=1, le=255)], ...] = ()
    """Exit statuses after which the same command may be run again, such as a collision of two."""
    dump_before: tuple[Word, ...] = ()
    """Databases to dump before: the way back."""
    undo: Argv | None = None
    """Ensures the earlier state. Without it and without a dump there is nothing to undo, or no way back."""
    irreversible: Annotated[bool, Strict()] = False
    """There is no way back but the dumps."""

    @model_validator(mode="after")
    def _safe_to_repeat(self) -> Self:
        if not self.repeatable and self.done_when is None:
            raise refuse("nobody can tell whether it is done already", "expected done_when, or repeatable: true")
        if (self.when is Moment.AFTER_JOIN) != (self.joins is not None):
            raise refuse("after-join and joins belong together", "expected both or none")
        if self.irreversible and self.undo:
            raise refuse("it has an undo and is irreversible", "expected one of both")
        return self


class HttpCheck(_Frozen):
    """A request that a healthy component answers."""

    url: Annotated[str, Strict()]
    """The URL, a template."""
    statuses: Annotated[tuple[Annotated[int, Strict(), Field(ge=100, le=599)], ...], Field(min_length=1)] = (200,)
    """The answers of a healthy one."""


class Health(_Frozen):
    """What is true of a component that serves, on each of its hosts; all its units are active besides."""

    http: HttpCheck | None = None
    """A request from the host itself."""
    command: Argv | None = None
    """A program that exits with 0; asked once the request was answered, where both are given."""
    expect: Annotated[str, Strict()] | None = None
    """A regular expression that the program's output contains; a template."""
    user: Line = "root"
    """Whom the program runs as."""
    environment_file: AbsolutePath | None = None
    """A file of `NAME=value` lines the program is started with."""
    within_s: TimeoutSeconds = 120.0
    """Seconds within which it becomes true after a start."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.expect is not None and self.command is None:
            raise refuse("expect belongs to a command", "expected a command, or no expect")
        return self


SettingType = Literal["text", "integer", "number", "boolean", "list"]


class Setting(_Frozen):
    """Something an operator may choose in the site file."""

    type: SettingType
    """What a value is."""
    default: JsonValue
    """The value unless the site file gives another."""
    description: Line
    """What it does."""
    choices: tuple[JsonValue, ...] = ()
    """The values there are, where they are few."""
    minimum: float | None = None
    """The least number."""
    maximum: float | None = None
    """The greatest number."""

    @model_validator(mode="after")
    def _default_fits(self) -> Self:
        if wrong := setting_error(self, self.default):
            raise refuse(f"the default does not fit: {wrong[0]}", wrong[1])
        return self


class Companion(_Frozen):
    """What hosts of another component cannot do without because of how this component is set."""

    hosts_with: HostLabel
    """The other component."""
    need: Annotated[tuple[HostLabel, ...], Field(min_length=1)]
    """One of these components beside it; the first is the one that is proposed."""
    when: dict[Word, JsonValue] = Field(default_factory=dict)
    """Settings of this component with these values; the need exists where all have them."""
    when_filled: tuple[Word, ...] = ()
    """Settings of this component that are not empty; likewise."""
    why: Line
    """What the other component's hosts cannot do else, in one line."""

    def is_needed(self, settings: Mapping[str, JsonValue]) -> bool:
        """Whether the need exists where this component has these settings. Pure."""
        given = all(settings[name] == value for name, value in self.when.items())
        return given and all(settings[name] for name in self.when_filled)


class Component(_Frozen):
    """One deployable piece."""

    name: HostLabel
    """Its name, and that of its folder."""
    summary: Line
    """What it is, in one line."""
    roles: tuple[Role, ...] = ()
    """Roles whose hosts run it unless the site file says otherwise; none: only where asked."""
    needs: tuple[HostLabel, ...] = ()
    """Components that must serve before, on whatever host."""
    beside: tuple[HostLabel, ...] = ()
    """Components that must serve before on the same host."""
    after: tuple[HostLabel, ...] = ()
    """Components that serve before on the same host where it runs them."""
    companions: tuple[Companion, ...] = ()
    """What hosts of other components need because of how this one is set."""
    one_host: Line | None = None
    """Why no second host can run it, in one line; None for one that any number can."""
    software: Software = Software()
    """Where its programs come from."""
    users: tuple[SystemUser, ...] = ()
    """Users of the operating system."""
    directories: tuple[Directory, ...] = ()
    """Directories, parents first."""
    secrets: tuple[SecretSpec, ...] = ()
    """Secrets that are its own."""
    uses_secrets: tuple[CredentialName, ...] = ()
    """Secrets of other components that its files hold too."""
    files: tuple[FileSpec, ...] = ()
    """Configuration files."""
    units: tuple[UnitSpec, ...] = ()
    """Units, in the order of starting."""
    databases: tuple[Database, ...] = ()
    """Databases."""
    message_queue: tuple[MessageQueueUser, ...] = ()
    """Users of the message queue."""
    catalog: tuple[CatalogService, ...] = ()
    """Services in keystone's catalogue."""
    ports: tuple[Port, ...] = ()
    """TCP ports that it listens on beside those of its services in the catalogue."""
    computed_ports: Annotated[str, Strict()] | None = None
    """A template of further TCP ports, separated by blanks: those that follow from what else the site has."""
    actions: tuple[Action, ...] = ()
    """What is done once, in this order."""
    health: Health | None = None
    """What is true of a component that serves."""
    drain: Command | None = None
    """Takes the component's work off a host before it is stopped."""
    settings: dict[Word, Setting] = Field(default_factory=dict)
    """What an operator may choose."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, names in self._names():
            twice = sorted({each for each in names if names.count(each) > 1})
            if twice:
                raise refuse(f"{what} {twice[0]} is given twice", "expected each once")
        known = {each.name for each in self.secrets} | set(self.uses_secrets)
        asked = [each.secret for each in self.databases] + [each.secret for each in self.message_queue]
        asked += [service.secret for service in self.catalog if service.secret]
        missing = sorted(set(asked) - known)
        if missing:
            raise refuse(f"the secret {missing[0]} is not declared", "expected it under secrets: or uses_secrets:")
        chosen = {name for each in self.companions for name in (*each.when, *each.when_filled)}
        if unknown := sorted(chosen - self.settings.keys()):
            raise refuse(f"companions: there is no setting {unknown[0]}", "expected one of those under settings:")
        return self

    def _names(self) -> list[tuple[str, list[str]]]:
        return [
            ("the file", [each.path for each in self.files]),
            ("the unit", [each.name for each in self.units]),
            ("the action", [each.name for each in self.actions]),
            ("the secret", [*(each.name for each in self.secrets), *self.uses_secrets]),
        ]

    def action(self, name: str) -> Action:
        """The action of that name; KeyError when there is none."""
        return {each.name: each for each in self.actions}[name]

    @property
    def tcp_ports(self) -> tuple[int, ...]:
        """Every TCP port that it listens on whatever the site has, on each of its hosts."""
        return (*self.ports, *(service.endpoint.port for service in self.catalog))

    @property
    def known_secrets(self) -> frozenset[str]:
        """The secrets its files may refer to."""
        return frozenset({each.name for each in self.secrets} | set(self.uses_secrets))


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "text": (str, "a text"),
    "integer": (int, "a whole number"),
    "number": ((int, float), "a number"),
    "boolean": (bool, "true or false"),
    "list": (list, "a list"),
}


def setting_error(setting: Setting, value: object) -> tuple[str, str] | None:
    """Why `value` does not fit the setting and what would be right; None when it fits. Pure."""
    kind, words = _KINDS[setting.type]
    if not isinstance(value, kind) or (isinstance(value, bool) and setting.type != "boolean"):
        return f"{value!r} is not {words}", f"expected {words}"
    if setting.choices and value not in setting.choices:
        return f"{value!r} is not known here", f"expected one of {', '.join(str(each) for each in setting.choices)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if setting.minimum is not None and value < setting.minimum:
            return f"{value} is out of bounds", f"expected at least {setting.minimum:g}"
        if setting.maximum is not None and value > setting.maximum:
            return f"{value} is out of bounds", f"expected at most {setting.maximum:g}"
    return None
