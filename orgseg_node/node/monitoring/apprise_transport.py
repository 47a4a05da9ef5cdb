"""Sends messages with notices to Teams, Slack, Matrix and other services through Apprise."""

from __future__ import annotations

from typing import Final

from orgseg_node import __version__
from orgseg_node.node.config.channels import ChannelSection, open_channel
from orgseg_node.node.monitoring.message_text import subject_of, text_of
from orgseg_node.node.monitoring.outbox import Message

_LISTED: Final = 10
"""So many jobs or series are listed for each code: a chat message must be short."""

_LIMIT_S: Final = 300.0
"""Apprise stops to wait for a service after this time, redirects and pauses between requests included."""


class NotAccepted(OSError):
    """The service did not accept a message; Apprise's own reason may quote the URL and is left out."""


def send_by_apprise(section: ChannelSection, node: str, message: Message) -> None:
    """Send a message through Apprise.

    Parameters
    ----------
    section : the channel
    node : AE title of the node
    message : what is sent

    Raises
    ------
    ConfigError
        If the file with the URL, or the URL, cannot be used.
    NotAccepted
        If the service does not answer, or refuses the message.
    """
    from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType  # noqa: PLC0415  # slow to import

    asset = AppriseAsset(
        app_id=f"orgseg_node/{__version__}",
        app_desc="DICOM node",
        app_url="",
        image_url_mask="",  # no pictures from servers outside the hospital
        image_url_logo="",
        http_redirects=False,  # the URL holds secrets
        async_mode=False,
        storage_mode="memory",  # nothing is written to the disk
        service_timeout=_LIMIT_S,
    )
    apprise = Apprise(asset=asset)
    apprise.add(open_channel(section, asset))
    sent = apprise.notify(
        title=subject_of(node, message),
        body=text_of(node, message, longest=_LISTED) + f"\nMessage {message.message_id}\n",
        notify_type=NotifyType.WARNING,
        body_format=NotifyFormat.TEXT,
    )
    if not sent:
        raise NotAccepted
