"""Sends messages with notices by e-mail.

This does not go through Apprise. For a mail server Apprise knows only the certificate authorities of the
system; it gives each attempt another Message-ID; and it reports failure, which makes the outbox send to all
recipients again, if one of them was refused.
"""

from __future__ import annotations

import smtplib
from email.message import EmailMessage
from email.utils import format_datetime

import structlog

from orgseg_node.node.config.alerts import EmailSection
from orgseg_node.node.monitoring.message_text import subject_of, text_of
from orgseg_node.node.monitoring.outbox import Message
from orgseg_node.node.tls.context import https_context

_log = structlog.get_logger("orgseg.notices")


def email_of(section: EmailSection, node: str, message: Message) -> EmailMessage:
    """Write a message as an e-mail.

    Parameters
    ----------
    section : sender and recipients
    node : AE title of the node
    message : what is sent
    """
    email = EmailMessage()
    email["Subject"] = subject_of(node, message)
    email["From"], email["To"] = section.sender, ", ".join(section.recipients)
    email["Date"] = format_datetime(message.created_at)
    email["Message-ID"] = f"<{message.message_id}@orgseg.invalid>"
    email["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    email.set_content(text_of(node, message))
    return email


def send_email(section: EmailSection, node: str, message: Message) -> None:
    """Send a message by SMTP.

    Parameters
    ----------
    section : mail server, sender and recipients
    node : AE title of the node
    message : what is sent

    Raises
    ------
    OSError, smtplib.SMTPException
        If the server accepts it for no recipient.
    """
    email = email_of(section, node, message)
    if section.security == "tls":
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            section.host, section.port, timeout=section.timeout_s, context=https_context(section.ca)
        )
    else:
        client = smtplib.SMTP(section.host, section.port, timeout=section.timeout_s)
    with client:
        if section.security == "starttls":
            client.starttls(context=https_context(section.ca))
        if section.password_file is not None:
            client.login(section.user, section.password_file.read_text(encoding="utf-8").strip())
        refused = client.send_message(email)
    if refused:
        _log.warning("notice refused for some recipients", recipients=len(refused))
