<?php
// Configuration of the test suite's WordPress. Everything that differs between two sites comes from the
// environment: WORKBENCH_STATE (a directory) and WORKBENCH_URL.
$state = getenv('WORKBENCH_STATE');

define('DB_NAME', 'wordpress');
define('DB_USER', 'unused');
define('DB_PASSWORD', 'unused');
define('DB_HOST', 'unused');
define('DB_CHARSET', 'utf8mb4');
define('DB_COLLATE', '');
define('DB_DIR', $state . '/database');
define('DB_FILE', 'wordpress.sqlite');

foreach (array('AUTH', 'SECURE_AUTH', 'LOGGED_IN', 'NONCE') as $name) {
    define($name . '_KEY', str_repeat($name, 8));
    define($name . '_SALT', strrev(str_repeat($name, 8)));
}

define('WP_HOME', getenv('WORKBENCH_URL'));
define('WP_SITEURL', getenv('WORKBENCH_URL'));
define('WP_ENVIRONMENT_TYPE', 'local'); // application passwords without https
define('DISABLE_WP_CRON', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('AUTOMATIC_UPDATER_DISABLED', true);
define('WP_AUTO_UPDATE_CORE', false);
define('WP_DEBUG', false);

$table_prefix = 'wp_';
if (!defined('ABSPATH')) {
    define('ABSPATH', __DIR__ . '/');
}
require_once ABSPATH . 'wp-settings.php';
