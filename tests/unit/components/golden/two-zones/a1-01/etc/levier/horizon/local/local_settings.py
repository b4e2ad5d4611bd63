# root:horizon 0640
import os

DEBUG = False
WEBROOT = "/"
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "@{secret:horizon.key:password:plain}"
LOCAL_PATH = "/var/lib/horizon"
STATIC_ROOT = "/var/lib/horizon/static/" + os.path.basename(os.path.realpath("/opt/levier/current/horizon"))
COMPRESS_OFFLINE = True
OPENSTACK_KEYSTONE_URL = "http://10.78.0.11:5000/v3"
OPENSTACK_KEYSTONE_DEFAULT_ROLE = "member"
OPENSTACK_KEYSTONE_DEFAULT_DOMAIN = "Default"
OPENSTACK_ENDPOINT_TYPE = "internalURL"
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
SESSION_TIMEOUT = 3600
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": "10.78.0.11:11211".split(","),
    }
}
TIME_ZONE = "UTC"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CSRF_COOKIE_SECURE = True
SESSION_COOKIE_SECURE = True
