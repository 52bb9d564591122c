<?php
// The router of `php -S`: stands where a web server stands, and does to requests what web servers,
// proxies and links do. One fault at a time, from $WORKBENCH_STATE/fault.json:
//   {"match": "POST /wp-json", "times": 1, "kind": …}
//   kind "answer"      {status, headers, body}: WordPress never sees the request
//   kind "delay"       {seconds}: before WordPress sees it, or until the fault is ended
//   kind "strip"       the Authorization header is dropped, as Apache does for CGI
//   kind "lost"        WordPress does the work; then the client gets {status} with a page, or the first
//                      half of the answer ({"cut": true}), or the answer after {seconds} or when the fault is ended
// Every request becomes a line in $WORKBENCH_STATE/requests.jsonl.
$state = getenv('WORKBENCH_STATE');
$site = $state . '/site';
$request = $_SERVER['REQUEST_METHOD'] . ' ' . $_SERVER['REQUEST_URI'];

function take_fault($file, $request) {
    $handle = is_file($file) ? @fopen($file, 'c+') : false;
    if (!$handle) { return null; }
    flock($handle, LOCK_EX);
    $fault = json_decode((string) stream_get_contents($handle), true);
    $hit = is_array($fault) && $fault['times'] > 0 && strpos($request, $fault['match']) !== false;
    if ($hit) {
        $left = array('times' => $fault['times'] - 1) + $fault;
        ftruncate($handle, 0);
        rewind($handle);
        fwrite($handle, json_encode($left));
    }
    fclose($handle);
    return $hit ? $fault : null;
}

function page($status) {
    return "<html><head><title>$status Injected</title></head><body><center>$status</center></body></html>\n";
}

function wait_for_end($file, $seconds) {
    for ($until = microtime(true) + $seconds; microtime(true) < $until; usleep(20000)) {
        clearstatcache();
        if (!is_file($file)) { return; }
    }
}

$fault = take_fault($state . '/fault.json', $request);
register_shutdown_function(function () use ($state, $request) {
    $line = json_encode(array('request' => $request, 'status' => http_response_code()));
    file_put_contents($state . '/requests.jsonl', $line . "\n", FILE_APPEND | LOCK_EX);
});

switch ($fault['kind'] ?? '') {
    case 'answer':
        http_response_code($fault['status']);
        header('Content-Type: text/html');
        foreach ($fault['headers'] ?? array() as $name => $value) { header("$name: $value"); }
        echo $fault['body'] ?? page($fault['status']);
        return true;
    case 'delay':
        ignore_user_abort(true);
        wait_for_end($state . '/fault.json', $fault['seconds']);
        break;
    case 'strip':
        unset($_SERVER['HTTP_AUTHORIZATION'], $_SERVER['PHP_AUTH_USER'], $_SERVER['PHP_AUTH_PW']);
        break;
    case 'lost':
        ignore_user_abort(true);
        ob_start(function ($answer) use ($fault, $state) {
            if (isset($fault['seconds'])) { wait_for_end($state . '/fault.json', $fault['seconds']); }
            if (!empty($fault['cut'])) {
                header('Content-Length: ' . strlen($answer));
                return substr($answer, 0, intdiv(strlen($answer), 2));
            }
            if (isset($fault['status'])) {
                header_remove();
                header('HTTP/1.1 ' . $fault['status'] . ' Injected', true, $fault['status']);
                header('Content-Type: text/html');
                return page($fault['status']);
            }
            return $answer;
        });
}

$path = urldecode(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) ?: '/');
$file = realpath($site . $path);
if ($path !== '/' && $file !== false && is_file($file)) { return false; }
$_SERVER['SCRIPT_NAME'] = $_SERVER['PHP_SELF'] = '/index.php';
$_SERVER['SCRIPT_FILENAME'] = $site . '/index.php';
unset($_SERVER['PATH_INFO']);
chdir($site);
require $site . '/index.php';
return true;
