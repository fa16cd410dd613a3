package cli

import "strings"

// helpTexts are the help texts of the commands.
var helpTexts = []text{
	{"A gateway that enforces the official-mail regulation in front of a mail server", "Cổng thư công vụ: thực thi quy chế thư điện tử trước máy chủ thư"},
	{`congthu stands in front of a mail server. Mail clients connect to it as if it were
the mail server; it lets the mail server check the password and enforces the
regulation: wrong passwords lock, unused accounts are revoked, old passwords
are refused.`, `congthu đứng trước máy chủ thư. Phần mềm thư kết nối tới congthu như tới chính máy
chủ thư; congthu để máy chủ thư kiểm tra mật khẩu và thực thi quy chế: nhập sai mật
khẩu thì khóa, lâu không dùng thì thu hồi, mật khẩu quá hạn thì bị từ chối.`},

	{"Look at accounts, unlock and restore them", "Xem, mở khóa và khôi phục tài khoản"},
	{`Look at accounts and change what the rules hold against them. The gateway must be
running: its admin socket is used, and every change goes into the audit log
with your name and the reason you give.`, `Xem tài khoản và thay đổi những gì quy chế đang áp dụng với tài khoản. Cổng thư phải
đang chạy: lệnh dùng socket quản trị của nó, và mỗi thay đổi được ghi vào nhật ký
kiểm toán cùng tên của quý vị và lý do quý vị nêu.`},
	{"Why somebody cannot log in, and what to do about it", "Vì sao không đăng nhập được, và cách xử lý"},
	{`Say in one sentence whether the owner of an account can log in and, if not, why,
since when and what to do; then what is remembered of the account. Any spelling
of the address does, aliases too.`, `Cho biết trong một câu chủ tài khoản có đăng nhập được không và, nếu không, vì sao,
từ khi nào và xử lý thế nào; sau đó là những gì được lưu về tài khoản. Viết địa chỉ
theo cách nào cũng được, kể cả bí danh.`},
	{"List accounts, in the order of their names", "Danh sách tài khoản, theo thứ tự tên"},
	{`List the accounts that have logged in at least once, or were imported, in the order of
their names. The state is what stands in the way of the owner first.

--unknown lists, instead, the names that nobody ever logged in with and for which wrong
passwords came, with --state locked those that are locked. They are no accounts, and are
in no other list, count or report: a name may be a password that somebody has typed in
the wrong place. Pass them on to nobody who need not see them.`, `Liệt kê các tài khoản đã đăng nhập ít nhất một lần, hoặc đã được nhập danh sách, theo
thứ tự tên. Trạng thái là điều đầu tiên cản trở chủ tài khoản: active (hoạt động), locked
(bị khóa), revoked (bị thu hồi), expired (mật khẩu hết hạn), expiring (mật khẩu sắp hết
hạn), never_seen (chưa đăng nhập qua cổng thư).

--unknown liệt kê những tên chưa từng đăng nhập mà có mật khẩu sai gửi đến, với --state
locked là những tên bị khóa. Đó không phải tài khoản, và không có trong danh sách, số
liệu hay báo cáo nào khác: một tên có thể là mật khẩu gõ nhầm chỗ. Không cung cấp cho
người không cần biết.`},
	{"Lock an account and end its sessions", "Khóa tài khoản và kết thúc các phiên của tài khoản"},
	{"Lock an account until somebody unlocks it, and end its live sessions.", "Khóa tài khoản cho đến khi có người mở khóa, và kết thúc các phiên đang mở."},
	{"Give a revoked account back", "Khôi phục tài khoản đã bị thu hồi"},
	{`Give back an account that was revoked because nobody logged in to it (Art. 5.3.c). Its
months of disuse begin again.`, `Khôi phục tài khoản bị thu hồi do không được đăng nhập (Điều 5.3.c). Thời gian không
sử dụng được tính lại từ đầu.`},
	{"Let an expired password go on for some days", "Gia hạn mật khẩu thêm vài ngày"},
	{`Let a password that is too old, or about to be, go on for some days from now
(Art. 9): at most rules.password.max_grace_days.`, `Cho phép mật khẩu quá hạn, hoặc sắp quá hạn, được dùng thêm vài ngày kể từ bây giờ
(Điều 9): nhiều nhất là rules.password.max_grace_days.`},
	{"What has locked accounts, and which together", "Nguyên nhân khóa tài khoản"},
	{`List what has locked the accounts that are locked by wrong passwords now, the latest
first. Locks with a source in common, or many within minutes, have one cause; it
tells an attack from users who mistype. All sources of a cause are shown, and how many
names it has locked that nobody ever logged in with.`, `Liệt kê những gì đã khóa các tài khoản hiện bị khóa do nhập sai mật khẩu, mới nhất
trước. Các lần khóa có chung nguồn, hoặc nhiều lần khóa trong vài phút, có một nguyên
nhân; nhờ đó phân biệt tấn công với người dùng gõ nhầm. Mọi nguồn của một nguyên nhân
được hiển thị, cùng số tên chưa từng đăng nhập mà nó đã khóa.`},
	{"End a lock and forget the wrong passwords", "Mở khóa và xóa số lần nhập sai"},
	{`End a lock, whether wrong passwords or an administrator made it, and forget the wrong
passwords. First have the password corrected on every device that tries a wrong one.

After an attack many accounts are locked by one cause: congthu account causes lists
the causes, and --cause unlocks all accounts of one, and the names that nobody ever
logged in with that it has locked. --dry-run shows them first.`, `Mở khóa, dù do nhập sai mật khẩu hay do quản trị viên khóa, và xóa số lần nhập sai.
Trước hết hãy để người dùng sửa mật khẩu trên mọi thiết bị đang thử mật khẩu sai.

Sau một cuộc tấn công, nhiều tài khoản bị khóa do một nguyên nhân: congthu account causes
liệt kê các nguyên nhân, và --cause mở khóa mọi tài khoản của một nguyên nhân, cùng những
tên chưa từng đăng nhập mà nó đã khóa. --dry-run hiển thị trước.`},
	{"Join an account with what is kept under its other names", "Hợp nhất tài khoản với những gì lưu dưới các tên khác của nó"},
	{`Join an account with what the gateway keeps of it under other names: names that have
become aliases since, or whose domain is one of several that the mail server takes for
one (login_name: local). What is held against such a name holds for the account
already; the merge makes one of both, and the other name is gone.

Nothing is forgiven: the account keeps every lock and revocation and the most wrong
passwords, and its password is as old as is known of either. To let its owner in
afterwards: congthu account unlock, or restore. Merging again is no mistake.`, `Hợp nhất tài khoản với những gì cổng thư lưu về nó dưới các tên khác: tên nay đã thành
bí danh, hoặc tên có miền là một trong nhiều miền mà máy chủ thư coi là một (login_name:
local). Những gì áp dụng với tên ấy đã có hiệu lực với tài khoản; việc hợp nhất làm cho
hai thành một, và tên kia không còn.

Không có gì được xóa bỏ: tài khoản giữ mọi lần khóa, thu hồi và số lần nhập sai lớn nhất,
và mật khẩu có tuổi lớn nhất được biết. Để chủ tài khoản đăng nhập sau đó: congthu account
unlock, hoặc restore. Hợp nhất lần nữa không sao.`},

	{"Look at sources that are refused, and let an office go on", "Xem các nguồn bị từ chối, và cho phép một cơ quan tiếp tục"},
	{`A source is an IPv4 address or an IPv6 /64 network. One from which too many wrong
passwords come is refused for a time, and an office may stand behind it. See which
are refused and, when it is no attack, let one go on. The gateway must be running:
its admin socket is used, and every change goes into the audit log with your name
and the reason you give.`, `Nguồn là một địa chỉ IPv4 hoặc một mạng IPv6 /64. Nguồn có quá nhiều lần nhập sai mật
khẩu bị từ chối một thời gian, mà đằng sau có thể là một cơ quan. Lệnh này cho xem nguồn
nào bị từ chối và, khi không phải tấn công, cho phép nguồn đó tiếp tục. Cổng thư phải đang
chạy: lệnh dùng socket quản trị của nó, và mỗi thay đổi được ghi vào nhật ký kiểm toán
cùng tên của quý vị và lý do quý vị nêu.`},
	{"The sources that are allowed, and those that are refused now", "Các nguồn được phép, và các nguồn hiện bị từ chối"},
	{`List the sources that administrators let go on, until when, who did it and why; and
those that this gateway refuses now. Each gateway refuses by what it has seen itself:
with several on one database, ask each. LOGGED IN are the accounts that were logged
in to from there within a day: where there are some it is probably an office.`, `Liệt kê các nguồn được quản trị viên cho phép, đến khi nào, ai cho phép và vì sao; và các
nguồn mà cổng thư này hiện từ chối. Mỗi cổng thư từ chối theo những gì chính nó thấy: khi
có nhiều cổng thư dùng chung cơ sở dữ liệu, hãy hỏi từng cổng thư. ĐÃ ĐĂNG NHẬP là số tài
khoản đã đăng nhập từ đó trong vòng một ngày: nếu có thì nguồn đó có thể là một cơ quan.`},
	{"Let a source go on for some hours", "Cho phép một nguồn trong vài giờ"},
	{`Let a source go on for some hours, whatever it or its network has done: an office
behind one address in which somebody mistypes, or a device has an old password. It
holds at every gateway and over restarts, and ends by itself, or with --end. Every
try is still counted on its account: no lock, limit of a day or limit of tries at
once is lifted.

First find out who guesses there. The address of an attacker is not to be allowed:
block it at the firewall, then unlock what it has locked (congthu account unlock
--cause). To let one account go on from wherever it was refused, congthu account
unlock is enough.

An IPv6 address stands for its /64.`, `Cho phép một nguồn trong vài giờ, dù nó hoặc mạng của nó đã làm gì: cơ quan dùng chung
một địa chỉ, có người gõ nhầm hoặc có thiết bị lưu mật khẩu cũ. Việc cho phép có hiệu lực
ở mọi cổng thư và qua các lần khởi động lại, tự hết hạn, hoặc kết thúc bằng --end. Mỗi lần
thử vẫn được tính vào tài khoản: không mở khóa, không bỏ giới hạn trong ngày hay giới hạn
số lần thử cùng lúc.

Trước hết hãy tìm hiểu ai đang dò mật khẩu ở đó. Không cho phép địa chỉ của kẻ tấn công:
hãy chặn ở tường lửa, rồi mở khóa những gì nó đã khóa (congthu account unlock --cause).
Để một tài khoản dùng được từ nơi bị từ chối, chỉ cần congthu account unlock.

Địa chỉ IPv6 đại diện cho mạng /64 của nó.`},

	{"Read and verify the audit log", "Xem và kiểm tra nhật ký kiểm toán"},
	{`The audit log says who did what to which account, when, from where and why. Its events
are chained by hash: changing or removing one breaks every later hash. The
gateway must be running: its admin socket is used.`, `Nhật ký kiểm toán ghi ai đã làm gì với tài khoản nào, khi nào, từ đâu và vì sao. Các sự
kiện được nối chuỗi bằng giá trị băm: sửa hoặc xóa một sự kiện làm sai mọi giá trị băm sau
đó. Cổng thư phải đang chạy: lệnh dùng socket quản trị của nó.`},
	{"List events, newest first", "Danh sách sự kiện, mới nhất trước"},
	{"Verify the hash chain of the whole audit log", "Kiểm tra tính toàn vẹn của cả nhật ký kiểm toán"},
	{`Walk the chain from the first event to the newest and print its head. Whoever notes
the head elsewhere (SEQ:HASH) can prove later, with --noted, that nothing up to
there was changed: a chain that was made anew from the beginning is whole too,
but has another head.

Events that were removed because of their age (audit.keep_days) are no break: the
chain goes on from the last of them, if an event of kind audit.pruned tells of it.
A head that was noted before that one cannot be compared any more: note a newer one
in time.

Fails (exit code 1) when the log was changed.`, `Duyệt chuỗi từ sự kiện đầu đến sự kiện mới nhất và in đầu chuỗi. Khi đã ghi lại đầu
chuỗi ở nơi khác (SEQ:HASH) thì sau này, bằng --noted, chứng minh được rằng không có gì
đến đó bị thay đổi: một chuỗi được tạo lại từ đầu cũng toàn vẹn, nhưng có đầu chuỗi khác.

Sự kiện bị xóa do quá thời hạn lưu (audit.keep_days) không làm đứt chuỗi: chuỗi tiếp tục
từ sự kiện cuối trong số đó, nếu có sự kiện loại audit.pruned cho biết. Đầu chuỗi ghi
trước đó không so được nữa: hãy ghi lại đầu chuỗi mới kịp thời.

Thất bại (mã kết thúc 1) khi nhật ký đã bị sửa.`},

	{"Check the configuration, the mail servers and the database behind it", "Kiểm tra cấu hình, các máy chủ thư và cơ sở dữ liệu phía sau"},
	{`Check the whole configuration, connect to the mail servers and to the database, if
there is one, and say what was found; also which names in the store mean other
accounts now, and which have letters that names.unicode does not allow.
Nothing is changed. Each address to listen on is tried for a moment.

With --account one right and one wrong password are tried at each mail server,
and how its replies are understood is printed: do this once for every new mail
server, since whether a reply counts as a wrong password decides who is locked.`, `Kiểm tra toàn bộ cấu hình, kết nối tới các máy chủ thư và tới cơ sở dữ liệu, nếu có, và
cho biết kết quả; cả những tên trong kho dữ liệu nay chỉ tài khoản khác, và những tên có
chữ mà names.unicode không cho phép. Không thay đổi gì. Mỗi địa chỉ nghe được thử trong
giây lát.

Với --account, một mật khẩu đúng và một mật khẩu sai được thử ở mỗi máy chủ thư, và cách
hiểu câu trả lời được in ra: hãy làm một lần với mỗi máy chủ thư mới, vì câu trả lời có
được tính là sai mật khẩu hay không quyết định ai bị khóa.`},

	{"Look at the gateway's clock, and accept it", "Xem và xác nhận đồng hồ của cổng thư"},
	{`The months of the regulation are counted by a clock. A clock that disagrees with the
audit log, with the database's clock or with the time that has passed is suspect:
users log in, but no account is revoked, no password or lock runs out, and no
instant that is known is replaced, until somebody has looked at it.`, `Các thời hạn của quy chế được tính theo đồng hồ. Đồng hồ không khớp với nhật ký kiểm
toán, với đồng hồ của cơ sở dữ liệu hoặc với thời gian đã trôi qua thì bị nghi ngờ: người
dùng vẫn đăng nhập được, nhưng không tài khoản nào bị thu hồi, không mật khẩu hay khóa nào
hết hạn, và không thời điểm đã biết nào bị thay, cho đến khi có người xem lại.`},
	{"Show what time it is for the gateway, and why that is suspect", "Xem giờ của cổng thư, và vì sao bị nghi ngờ"},
	{"Say that the clock is right now", "Xác nhận đồng hồ nay đã đúng"},
	{`Say that the clock is right. What is known to have happened in the future, since the
clock was ahead, has then happened now; each such account has an entry in the audit
log, as the acceptance has. Where two clocks still differ it is refused: set the
wrong one right first. The gateway must be running.`, `Xác nhận rằng đồng hồ đúng. Những gì được ghi là xảy ra trong tương lai, do đồng hồ chạy
nhanh, khi đó được coi là xảy ra bây giờ; mỗi tài khoản như vậy có một mục trong nhật ký
kiểm toán, việc xác nhận cũng vậy. Nếu hai đồng hồ vẫn lệch nhau thì bị từ chối: hãy chỉnh
đồng hồ sai trước. Cổng thư phải đang chạy.`},

	{"Show and change what gateways on one database have in common", "Xem và đổi quy tắc chung của các cổng thư dùng chung cơ sở dữ liệu"},
	{`Gateways on one PostgreSQL work by the same rules, domains, aliases and names, or a
lock at one of them would be none at another. They agree on them in the database: a
gateway whose configuration file differs does not start beside others, and a reload
that differs is refused. A gateway that is alone makes its own file the agreed one.`, `Các cổng thư dùng chung một PostgreSQL hoạt động theo cùng quy tắc, miền, bí danh và tên;
nếu không, khóa ở cổng thư này sẽ không phải là khóa ở cổng thư kia. Quy tắc chung nằm
trong cơ sở dữ liệu: cổng thư có tệp cấu hình khác không khởi động bên cạnh các cổng thư
khác, và việc nạp lại cấu hình khác bị từ chối. Cổng thư chạy một mình lấy tệp của nó làm
quy tắc chung.`},
	{"Show the settings that are agreed on, and what differs here", "Xem quy tắc chung, và điểm khác ở đây"},
	{"Make the rules of this gateway's file those of all", "Áp dụng quy tắc trong tệp của cổng thư này cho mọi cổng thư"},
	{`Read the configuration file of this gateway anew and make its rules those that all
gateways on the database work by. The change goes into the audit log. A gateway whose
file has the same rules puts it into force by itself; any other works on by the old
ones, and shows that it is behind. So write all files first, then adopt at one
gateway. The gateway must be running; when none runs, start one: it adopts its own.`, `Đọc lại tệp cấu hình của cổng thư này và lấy quy tắc trong đó làm quy tắc chung của mọi
cổng thư dùng cơ sở dữ liệu này. Thay đổi được ghi vào nhật ký kiểm toán. Cổng thư có tệp
ghi cùng quy tắc sẽ tự áp dụng; cổng thư khác tiếp tục theo quy tắc cũ và cho thấy nó chưa
theo kịp. Vì vậy hãy sửa mọi tệp trước, rồi chạy lệnh này ở một cổng thư. Cổng thư phải
đang chạy; khi không có cổng thư nào chạy, hãy khởi động một cái: nó tự áp dụng tệp của nó.`},

	{"Run the gateway", "Chạy cổng thư"},
	{`Run the gateway until SIGTERM or SIGINT: then it accepts nobody any more, lets
live sessions go on for drain_timeout, and ends.

SIGHUP reads the configuration again. A file with a mistake changes nothing.

Sockets that systemd passes (congthu.socket) are used in place of its own: new
clients then wait while the gateway is restarted, and are not refused.`, `Chạy cổng thư cho đến khi nhận SIGTERM hoặc SIGINT: khi đó cổng thư không nhận kết nối
mới, để các phiên đang mở tiếp tục trong drain_timeout, rồi kết thúc.

SIGHUP đọc lại cấu hình. Tệp có lỗi thì không thay đổi gì.

Socket do systemd chuyển cho (congthu.socket) được dùng thay cho socket tự mở: khi cổng
thư khởi động lại, máy khách mới chờ chứ không bị từ chối.`},
	{"Ask the running gateway whether it is well", "Hỏi cổng thư đang chạy có hoạt động tốt không"},
	{`Ask the gateway that is running whether it answers (/healthz), and end with 0 if it
does: for whoever restarts one that does not, such as the health check of a
container.

With --ready ask whether users can log in (/readyz): that also needs the mail
servers and the store. Restarting the gateway mends neither.`, `Hỏi cổng thư đang chạy có trả lời không (/healthz), và kết thúc với mã 0 nếu có: dành cho
nơi khởi động lại cổng thư không trả lời, ví dụ phần kiểm tra của container.

Với --ready thì hỏi người dùng có đăng nhập được không (/readyz): việc đó còn cần các máy
chủ thư và kho dữ liệu. Khởi động lại cổng thư không khắc phục được hai thứ ấy.`},
	{"Revoke the accounts that were not used for too long", "Thu hồi các tài khoản lâu không dùng"},
	{`Do now what the gateway does every day at rules.dormancy.sweep_at: mark the accounts
that nobody has logged in to for too long as revoked (Art. 5.3.c).

When that would be more than 20 accounts and more than one in ten, the sweep revokes
none: the clock may be wrong. Look at them with --dry-run, then revoke them with
--force. The gateway must be running.`, `Làm ngay việc mà cổng thư làm hằng ngày lúc rules.dormancy.sweep_at: đánh dấu thu hồi các
tài khoản quá lâu không được đăng nhập (Điều 5.3.c).

Khi số đó vượt quá 20 tài khoản và quá một phần mười thì không tài khoản nào bị thu hồi:
đồng hồ có thể sai. Hãy xem bằng --dry-run, rồi thu hồi bằng --force. Cổng thư phải đang
chạy.`},
	{"Take over what is known elsewhere", "Nhập những gì đã biết ở nơi khác"},
	{"Take over a list of accounts, in batches", "Nhập danh sách tài khoản, theo từng đợt"},
	{`Take over the accounts that a mail server has, with what is known of them, so that
those that nobody logs in to are known too and nobody's months begin anew.

FILE is CSV, separated by commas, semicolons or tabs, in UTF-8 or UTF-16 ("-"
reads the standard input). Its first row names the columns, in any order:
  address           the account; no alias; required
  unit              the agency
  registered        when the mailbox was given out
  last_login        the last login, by whatever door
  password_changed  when the password was set
Dates are 2026-01-31 or 31/01/2026, also with a time of day (8:15), in the time
zone of the regulation, 2026-01-31T08:00:00+07:00 or 20260131010000Z (LDAP). An
empty field says nothing: what is known stays. The last fields of a row may be
missing; columns without a name are left aside, and how much was in them is said.

Known accounts are corrected in one direction only: registered becomes the
earliest, last_login the latest, password_changed counts until the gateway has
seen the password itself, the unit is replaced. Wrong passwords, locks and
revocations stay: an import releases nothing. The same list again changes
nothing.

All errors are shown at once, with their lines, and then nothing is imported.
Each account that changes gets an entry in the audit log, as the beginning and the
end of the import do. Logins go on meanwhile.

The accounts are taken over in batches. When the gateway or its store stops in
between, the exit code is 1; run the same command again: what is there already is
left as it is, and the rest is done. Until then check and the next import say so.
Interrupting this command does not stop the import.`, `Nhập các tài khoản có trên máy chủ thư, cùng những gì đã biết về chúng, để tài khoản không
ai đăng nhập cũng được biết đến và thời hạn của mọi người không bị tính lại từ đầu.

FILE là tệp CSV, phân cách bằng dấu phẩy, chấm phẩy hoặc tab, mã UTF-8 hoặc UTF-16 ("-"
là đọc từ đầu vào chuẩn). Dòng đầu ghi tên các cột, theo thứ tự bất kỳ:
  address           tài khoản; không phải bí danh; bắt buộc
  unit              cơ quan, đơn vị
  registered        ngày cấp hộp thư
  last_login        lần đăng nhập cuối, bằng bất kỳ cách nào
  password_changed  ngày đặt mật khẩu
Ngày ghi là 2026-01-31 hoặc 31/01/2026, có thể kèm giờ (8:15), theo múi giờ của quy chế,
2026-01-31T08:00:00+07:00 hoặc 20260131010000Z (LDAP). Ô trống không có nghĩa gì: điều đã
biết giữ nguyên. Các ô cuối dòng có thể thiếu; cột không có tên bị bỏ qua, và số ô bị bỏ
qua được cho biết.

Tài khoản đã biết chỉ được sửa theo một chiều: registered lấy ngày sớm nhất, last_login lấy
ngày muộn nhất, password_changed có hiệu lực cho đến khi cổng thư tự thấy mật khẩu, unit
được thay. Số lần nhập sai, khóa và thu hồi giữ nguyên: việc nhập không giải tỏa gì. Nhập
lại cùng danh sách không thay đổi gì.

Mọi lỗi được hiển thị một lần, cùng số dòng, và khi đó không gì được nhập. Mỗi tài khoản
thay đổi có một mục trong nhật ký kiểm toán, lúc bắt đầu và lúc xong cũng vậy. Việc đăng
nhập vẫn tiếp tục trong lúc đó.

Tài khoản được nhập theo từng đợt. Nếu cổng thư hoặc kho dữ liệu dừng giữa chừng thì mã
thoát là 1; hãy chạy lại đúng lệnh này: những gì đã có được giữ nguyên, phần còn lại sẽ
được nhập. Cho đến khi đó, check và lần nhập kế tiếp đều nhắc. Ngắt lệnh này không dừng
việc nhập.`},
	{"Move the memory of the gateway", "Chuyển kho dữ liệu của cổng thư"},
	{"Copy the SQLite file into a PostgreSQL database", "Sao chép tệp SQLite vào cơ sở dữ liệu PostgreSQL"},
	{`Copy everything that the gateway remembers from its SQLite file into an empty
PostgreSQL database: accounts, failures and locks, names nobody has logged in
with, and the audit log with its numbers and hashes.

Stop the gateway first: it owns the file. The command may be interrupted and run
again, and goes on; no gateway opens the database before the copy is whole. It
is done when every account was compared and the audit log was verified in the
database; it says so then, and not before.

--to-postgres is a connection string (postgres://congthu@db.internal/congthu?sslmode=verify-full)
or a file that holds one: keep a password in a file.`, `Sao chép mọi thứ cổng thư lưu từ tệp SQLite vào một cơ sở dữ liệu PostgreSQL trống: tài
khoản, các lần sai và khóa, tên chưa từng đăng nhập, và nhật ký kiểm toán với số thứ tự và
giá trị băm.

Trước hết hãy dừng cổng thư: nó đang giữ tệp. Lệnh có thể bị ngắt và chạy lại để tiếp tục;
không cổng thư nào mở cơ sở dữ liệu trước khi bản sao đầy đủ. Việc sao chép xong khi mọi
tài khoản đã được so sánh và nhật ký kiểm toán trong cơ sở dữ liệu đã được kiểm tra; chỉ
khi đó lệnh mới báo xong.

--to-postgres là chuỗi kết nối (postgres://congthu@db.internal/congthu?sslmode=verify-full)
hoặc tệp chứa chuỗi ấy: mật khẩu thì để trong tệp.`},
	{"Write a file for those who help, without secrets", "Tạo gói thông tin hỗ trợ, không có bí mật"},
	{`Write a tar.gz that tells how the gateway is: version, configuration without
secrets, health, metrics, sizes of the store, the machine, and what the process is
doing. Only you may read the file; look into it before you send it.

Passwords, tokens, keys, accounts and the audit log are not in it. Holders of tokens
and addresses are pseudonyms, and aliases and delegations are only counted, unless
you say --with-names. The log is not in it either: it has accounts and addresses of
clients. The gateway must be running: its admin socket is used.`, `Tạo tệp tar.gz cho biết tình trạng cổng thư: phiên bản, cấu hình không có bí mật, tình
trạng hoạt động, số liệu giám sát, kích thước kho dữ liệu, máy, và việc tiến trình đang
làm. Chỉ quý vị đọc được tệp; hãy xem trước khi gửi.

Mật khẩu, token, khóa, tài khoản và nhật ký kiểm toán không có trong đó. Người giữ token
và địa chỉ được thay bằng bí danh, danh sách bí danh thư và ủy quyền chỉ được đếm, trừ khi
quý vị ghi --with-names. Nhật ký hoạt động cũng không có: trong đó có tài khoản và địa chỉ
máy khách. Cổng thư phải đang chạy: lệnh dùng socket quản trị của nó.`},
	{"Print the version", "In phiên bản"},
	{"Show the gateway at work, with a mail server of its own", "Chạy thử cổng thư với máy chủ thư thử nghiệm"},
	{`Start a small mail server in memory, the gateway in front of it, and print what to
try. Everything listens on this machine only. Nothing but the program is needed.

With --dir the state is kept: certificate, accounts, failures and locks. The
mail server's messages are not. Without it nothing is left behind.`, `Khởi động một máy chủ thư nhỏ trong bộ nhớ, cổng thư đứng trước nó, và in những gì có thể
thử. Mọi thứ chỉ nghe trên máy này. Không cần gì ngoài chương trình.

Với --dir, trạng thái được giữ lại: chứng thư, tài khoản, các lần sai và khóa. Thư của máy
chủ thư thì không. Không có tùy chọn này thì không để lại gì.`},

	// Cobra's texts about its own commands.
	{"Help about any command", "Trợ giúp về một lệnh"},
	{"Help provides help for any command in the application.\nSimply type congthu help [path to command] for full details.", "Hiển thị trợ giúp của một lệnh bất kỳ.\nHãy gõ congthu help [lệnh] để xem chi tiết."},
	{"Generate the autocompletion script for the specified shell", "Tạo đoạn mã gợi ý lệnh cho shell"},
	{"Generate the autocompletion script for congthu for the specified shell.\nSee each sub-command's help for details on how to use the generated script.", "Tạo đoạn mã gợi ý lệnh congthu cho shell được chọn.\nXem trợ giúp của từng lệnh con để biết cách dùng đoạn mã."},
	{"Generate the autocompletion script for bash", "Tạo đoạn mã gợi ý lệnh cho bash"},
	{"Generate the autocompletion script for fish", "Tạo đoạn mã gợi ý lệnh cho fish"},
	{"Generate the autocompletion script for zsh", "Tạo đoạn mã gợi ý lệnh cho zsh"},
	{"Generate the autocompletion script for powershell", "Tạo đoạn mã gợi ý lệnh cho powershell"},
	{"disable completion descriptions", "không kèm lời giải thích"},
	{"Generate the autocompletion script for the bash shell.\n\nThis script depends on the 'bash-completion' package.\nIf it is not installed already, you can install it via your OS's package manager.\n\nTo load completions in your current shell session:\n\n\tsource <(congthu completion bash)\n\nTo load completions for every new session, execute once:\n\n#### Linux:\n\n\tcongthu completion bash > /etc/bash_completion.d/congthu\n\n#### macOS:\n\n\tcongthu completion bash > $(brew --prefix)/etc/bash_completion.d/congthu\n\nYou will need to start a new shell for this setup to take effect.", "Tạo đoạn mã gợi ý lệnh cho bash.\n\nĐoạn mã này cần gói 'bash-completion'.\nNếu chưa có, hãy cài bằng trình quản lý gói của hệ điều hành.\n\nĐể dùng ngay trong phiên này:\n\n\tsource <(congthu completion bash)\n\nĐể dùng trong mọi phiên mới, hãy chạy một lần:\n\n#### Linux:\n\n\tcongthu completion bash > /etc/bash_completion.d/congthu\n\n#### macOS:\n\n\tcongthu completion bash > $(brew --prefix)/etc/bash_completion.d/congthu\n\nPhải mở shell mới để có hiệu lực."},
	{"Generate the autocompletion script for the zsh shell.\n\nIf shell completion is not already enabled in your environment you will need\nto enable it.  You can execute the following once:\n\n\techo \"autoload -U compinit; compinit\" >> ~/.zshrc\n\nTo load completions in your current shell session:\n\n\tsource <(congthu completion zsh)\n\nTo load completions for every new session, execute once:\n\n#### Linux:\n\n\tcongthu completion zsh > \"${fpath[1]}/_congthu\"\n\n#### macOS:\n\n\tcongthu completion zsh > $(brew --prefix)/share/zsh/site-functions/_congthu\n\nYou will need to start a new shell for this setup to take effect.", "Tạo đoạn mã gợi ý lệnh cho zsh.\n\nNếu chức năng gợi ý chưa được bật, hãy bật bằng cách chạy một lần:\n\n\techo \"autoload -U compinit; compinit\" >> ~/.zshrc\n\nĐể dùng ngay trong phiên này:\n\n\tsource <(congthu completion zsh)\n\nĐể dùng trong mọi phiên mới, hãy chạy một lần:\n\n#### Linux:\n\n\tcongthu completion zsh > \"${fpath[1]}/_congthu\"\n\n#### macOS:\n\n\tcongthu completion zsh > $(brew --prefix)/share/zsh/site-functions/_congthu\n\nPhải mở shell mới để có hiệu lực."},
	{"Generate the autocompletion script for the fish shell.\n\nTo load completions in your current shell session:\n\n\tcongthu completion fish | source\n\nTo load completions for every new session, execute once:\n\n\tcongthu completion fish > ~/.config/fish/completions/congthu.fish\n\nYou will need to start a new shell for this setup to take effect.", "Tạo đoạn mã gợi ý lệnh cho fish.\n\nĐể dùng ngay trong phiên này:\n\n\tcongthu completion fish | source\n\nĐể dùng trong mọi phiên mới, hãy chạy một lần:\n\n\tcongthu completion fish > ~/.config/fish/completions/congthu.fish\n\nPhải mở shell mới để có hiệu lực."},
	{"Generate the autocompletion script for powershell.\n\nTo load completions in your current shell session:\n\n\tcongthu completion powershell | Out-String | Invoke-Expression\n\nTo load completions for every new session, add the output of the above command\nto your powershell profile.", "Tạo đoạn mã gợi ý lệnh cho powershell.\n\nĐể dùng ngay trong phiên này:\n\n\tcongthu completion powershell | Out-String | Invoke-Expression\n\nĐể dùng trong mọi phiên mới, hãy thêm kết quả của lệnh trên vào tệp\nprofile của powershell."},
}

// exampleReasons are the reasons in examples. Auditors read the reasons that are
// entered in their place.
var exampleReasons = []text{
	{"called 0912345678, identity checked", "gọi từ 0912345678, đã xác minh danh tính"},
	{"left the agency on 1 December", "thôi việc tại cơ quan từ ngày 01/12"},
	{"request 123/CV of the agency", "công văn 123/CV của cơ quan"},
	{"on a mission until Friday", "đi công tác đến thứ Sáu"},
	{"attack blocked, ticket 17", "đã chặn tấn công, phiếu 17"},
	{"time server mended, compared with a watch", "đã sửa máy chủ thời gian, đã so với đồng hồ"},
	{"one mailbox, document 45/STTTT", "một hộp thư, văn bản 45/STTTT"},
	{"Decision 12 of the Department: 5 wrong passwords", "Quyết định 12 của Sở: 5 lần nhập sai mật khẩu"},
	{"Decision 12 of the Department", "Quyết định 12 của Sở"},
	{"first sweep after the import, list checked", "lần rà soát đầu sau khi nhập, đã kiểm tra danh sách"},
	{"list checked by the Department", "Sở đã kiểm tra danh sách"},
	{"office of the district, scanner with an old password", "UBND huyện, máy quét dùng mật khẩu cũ"},
	{"scanner has the new password", "máy quét đã có mật khẩu mới"},
	{"accounts of the old system, document 123/STTTT", "tài khoản của hệ thống cũ, văn bản 123/STTTT"},
}

// flagTexts are the help texts of the flags.
var flagTexts = []text{
	{"help for this command", "trợ giúp cho lệnh này"},
	{"print the version", "in phiên bản"},
	{"the configuration `FILE`", "tệp cấu hình `FILE`"},
	{socketUsage, strings.NewReplacer("the gateway's admin `SOCKET` (default", "`SOCKET` quản trị của cổng thư (mặc định", ", or ", ", hoặc ").Replace(socketUsage)},
	{"find the socket and the time zone in this configuration `FILE`", "tìm socket và múi giờ trong tệp cấu hình `FILE` này"},
	{"table, for people, or json", "table cho người đọc, hoặc json"},
	{"`TEXT` that says why, for the audit log; required", "lý do `TEXT`, ghi vào nhật ký kiểm toán; bắt buộc"},
	{"`TEXT` that says why, for the audit log; required but with --dry-run", "lý do `TEXT`, ghi vào nhật ký kiểm toán; bắt buộc trừ khi có --dry-run"},
	{"`TEXT` that says why, for the audit log; required without --dry-run", "lý do `TEXT`, ghi vào nhật ký kiểm toán; bắt buộc khi không có --dry-run"},
	{"`TEXT` that says why, for the audit log; required with --force", "lý do `TEXT`, ghi vào nhật ký kiểm toán; bắt buộc khi có --force"},
	{"for `N` days from now", "trong `N` ngày kể từ bây giờ"},
	{stateUsage, "chỉ tài khoản ở trạng thái `STATE` này: " + strings.Join(stateWords(), ", ")},
	{"only accounts whose name contains this `TEXT`", "chỉ tài khoản có `TEXT` này trong tên"},
	{"at most `N` accounts; 0 for all", "nhiều nhất `N` tài khoản; 0 là tất cả"},
	{"names that nobody ever logged in with, instead; they may be mistyped passwords", "thay vào đó là những tên chưa từng đăng nhập; có thể là mật khẩu gõ nhầm chỗ"},
	{"every account that has other names", "mọi tài khoản có tên khác"},
	{"only show what would be done", "chỉ cho xem những gì sẽ làm"},
	{"all accounts that this cause (`ID`) has locked", "mọi tài khoản mà nguyên nhân này (`ID`) đã khóa"},
	{"with --cause: only show which accounts that would be", "với --cause: chỉ cho xem đó là những tài khoản nào"},
	{"only events of this account (`ADDRESS`)", "chỉ sự kiện của tài khoản này (`ADDRESS`)"},
	{"only events from this `ADDRESS` or network, and those that tell of it", "chỉ sự kiện từ địa chỉ `ADDRESS` hoặc mạng này, và những sự kiện nói về nó"},
	{kindsUsage, "chỉ sự kiện thuộc các loại `KINDS` này, cách nhau bằng dấu phẩy: " + strings.Join(kindWords(), ", ")},
	{"at most `N` events", "nhiều nhất `N` sự kiện"},
	{"only events before this one (`SEQ`)", "chỉ sự kiện trước sự kiện này (`SEQ`)"},
	{"a head that was noted earlier (`SEQ:HASH`)", "đầu chuỗi đã ghi trước đây (`SEQ:HASH`)"},
	{"try a right and a wrong password of this `ADDRESS` at the mail servers", "thử một mật khẩu đúng và một mật khẩu sai của địa chỉ `ADDRESS` này ở các máy chủ thư"},
	{"read the right password from this `FILE` instead of asking for it", "đọc mật khẩu đúng từ tệp `FILE` này thay vì hỏi"},
	{"only say what would be done", "chỉ cho biết những gì sẽ làm"},
	{"the admin API and /metrics listen on this `HOST:PORT`", "API quản trị và /metrics nghe ở `HOST:PORT` này"},
	{"keep the state in this `DIRECTORY` (default: a temporary one, removed at the end)", "giữ trạng thái trong thư mục `DIRECTORY` này (mặc định: thư mục tạm, xóa khi dừng)"},
	{"IMAP with STARTTLS listens on this `HOST:PORT`", "IMAP với STARTTLS nghe ở `HOST:PORT` này"},
	{"IMAP over TLS listens on this `HOST:PORT`", "IMAP trên TLS nghe ở `HOST:PORT` này"},
	{"submission with STARTTLS listens on this `HOST:PORT`", "cổng gửi thư với STARTTLS nghe ở `HOST:PORT` này"},
	{"submission over TLS listens on this `HOST:PORT`", "cổng gửi thư trên TLS nghe ở `HOST:PORT` này"},
	{"print the gateway's log as well", "in cả nhật ký của cổng thư"},
	{"ask whether users can log in, too", "hỏi cả việc người dùng có đăng nhập được không"},
	{"change nothing, and tell what would change", "không thay đổi gì, chỉ cho biết những gì sẽ thay đổi"},
	{"end what was allowed before", "kết thúc việc cho phép trước đó"},
	{hoursUsage, "trong `N` giờ kể từ bây giờ, từ 1 đến " + mostHours + " (7 ngày)"},
	{"the SQLite `FILE` (default: store.path of the configuration)", "tệp SQLite `FILE` (mặc định: store.path trong cấu hình)"},
	{"the database: a connection string, or a `FILE` that holds one", "cơ sở dữ liệu: chuỗi kết nối, hoặc tệp `FILE` chứa chuỗi ấy"},
	{"write to this new `FILE` (default congthu-support-TIME.tar.gz in this directory)", "ghi vào tệp mới `FILE` này (mặc định congthu-support-TIME.tar.gz trong thư mục hiện tại)"},
	{"names of people in clear, and the lists of aliases and delegations", "ghi rõ tên người, và danh sách bí danh thư và ủy quyền"},
	{"only list them", "chỉ liệt kê"},
	{"revoke however many there are", "thu hồi dù nhiều đến đâu"},
}
