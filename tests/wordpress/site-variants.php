<?php
// A must-use plugin: what other sites' plugins and settings do, switched on by $WORKBENCH_STATE/variants.json.
$variants = json_decode((string) @file_get_contents(getenv('WORKBENCH_STATE') . '/variants.json'), true) ?: array();

if (!function_exists('wp_mail')) {
    function wp_mail() { return true; } // the mailer is a package of its own and not unpacked
}
if (isset($variants['plain_permalinks'])) {
    add_filter('pre_option_permalink_structure', '__return_empty_string');
    add_filter('pre_option_rewrite_rules', '__return_empty_string');
}
if (isset($variants['no_application_passwords'])) {
    add_filter('wp_is_application_passwords_available', '__return_false');
}
if (isset($variants['rest_forbidden'])) {
    add_filter('rest_authentication_errors', function () {
        return new WP_Error('rest_forbidden', 'REST API restricted to administrators.', array('status' => 403));
    });
}
if (isset($variants['asks_early_who_is_logged_in'])) { // as security plugins do
    add_filter('rest_authentication_errors', function ($error) { is_user_logged_in(); return $error; });
}
if (isset($variants['prints_warning'])) {
    add_action('rest_api_init', function () {
        echo "<br />\n<b>Warning</b>:  Undefined array key [0] {x} in <b>/srv/old-plugin.php</b> on line <b>12</b><br />\n";
    });
}
if (isset($variants['fatal_error'])) {
    add_action('rest_api_init', function () { a_function_that_no_plugin_brought(); });
}
if (isset($variants['changes_slugs'])) { // as plugins that shorten slugs do
    add_filter('wp_insert_post_data', function ($data) {
        $data['post_name'] = 'shortened-' . substr(md5($data['post_content']), 0, 8);
        return $data;
    });
}
if (isset($variants['drops_paragraphs'])) {
    add_filter('content_save_pre', function ($content) { return str_replace('<p>', '', $content); });
}
if (isset($variants['moderates'])) { // as editorial work-flow plugins do
    add_filter('wp_insert_post_data', function ($data) {
        if ($data['post_status'] === 'publish') { $data['post_status'] = 'pending'; }
        return $data;
    });
}
