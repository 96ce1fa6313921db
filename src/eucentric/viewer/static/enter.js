// The address with the token leaves the history.
location.replace("/");
