<?php
// php install.php tables    makes the tables and the first user
// php install.php people    makes one user of each role, categories and pretty permalinks; prints
//                           {"login": "application password"} as JSON
$site = getenv('WORKBENCH_STATE') . '/site';
$_SERVER += array(
    'HTTP_HOST' => '127.0.0.1',
    'SERVER_PROTOCOL' => 'HTTP/1.1',
    'REQUEST_METHOD' => 'GET',
    'REQUEST_URI' => '/',
    'REMOTE_ADDR' => '127.0.0.1',
);

if ($argv[1] === 'tables') {
    define('WP_INSTALLING', true);
    require $site . '/wp-load.php';
    require_once ABSPATH . 'wp-admin/includes/upgrade.php';
    wp_install('Workbench test site', 'administrator', 'administrator@example.test', true, '', 'unused-login-password');
    exit(0);
}

require $site . '/wp-load.php';
$GLOBALS['wp_rewrite']->set_permalink_structure('/%postname%/');
flush_rewrite_rules(false);
foreach (array('News', 'Guides', 'Research & Development') as $name) {
    wp_insert_term($name, 'category');
}
$roles = array(
    'administrator' => 'administrator',
    'editor' => 'editor',
    'author' => 'author',
    'second-author' => 'author',
    'contributor' => 'contributor',
    'subscriber' => 'subscriber',
);
$passwords = array();
foreach ($roles as $login => $role) {
    $user = get_user_by('login', $login);
    $id = $user ? $user->ID : wp_insert_user(array(
        'user_login' => $login,
        'user_pass' => 'unused-login-password',
        'user_email' => $login . '@example.test',
        'role' => $role,
    ));
    $made = WP_Application_Passwords::create_new_application_password($id, array('name' => 'workbench'));
    // As WordPress shows it to people: in groups of four.
    $passwords[$login] = WP_Application_Passwords::chunk_password($made[0]);
}
echo json_encode($passwords);
