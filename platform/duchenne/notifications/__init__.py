"""Notifications: what happened to a sweep, told to a webhook.

Belongs here: which webhooks there are, what a message says, signing it and getting it there. Does not belong here:
deciding how a sweep ends (driver). `docs/notifications.md` has the formats and how a receiver checks a signature.
"""

from duchenne.notifications.messages import Happening
from duchenne.notifications.notifier import Notifier, announce_best
from duchenne.notifications.webhooks import Webhook, WebhookError, load_webhooks

__all__ = ["Happening", "Notifier", "Webhook", "WebhookError", "announce_best", "load_webhooks"]
