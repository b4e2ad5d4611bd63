"""The APIs of the cloud itself, by openstacksdk: its catalogue of services, availability zones, and a first server."""
