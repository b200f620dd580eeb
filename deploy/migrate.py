"""Makes the database and the Dagster home those of this image: schema, views, grants, catalogue, dagster.yaml.

Every start of docker-compose.yml runs it before the services; repeating it is harmless.
"""

import sys

from bts_assets.cli.run_job import dagster_home
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.errors import BtsError
from bts_assets.settings import load_settings
from bts_assets.storage.failures import explained
from bts_assets.storage.postgres import connect, is_current, migrate


def main() -> int:
    try:
        settings = load_settings()
        if settings.database_url is None:
            raise BtsError("BTS_DATABASE_URL is not set; docker-compose.yml sets it for every service")
        engine, catalogue = connect(settings.database_url, settings.lock_timeout), load_catalogue(settings.catalogue)
        if not is_current(engine, catalogue):
            migrate(engine, catalogue)
        dagster_home(settings)
    except Exception as error:
        if (told := explained(error)) is None:
            raise
        print(told, file=sys.stderr)  # noqa: T201 - the one line for the log of the container
        return told.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
