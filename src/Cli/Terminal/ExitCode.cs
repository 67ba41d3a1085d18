// Exit codes and what each kind of failure prints. One place, so that every command fails alike.
using System.CommandLine;
using System.Runtime.InteropServices;

namespace IptNative.Cli.Terminal;

/// <summary>What the program returns to the shell.</summary>
internal static class ExitCode
{
    public const int Done = 0;
    public const int Failed = 1;
    public const int Usage = 2;
    public const int Interrupted = 130;

    /// <summary>Makes a command's action: failures that a user can act on are printed as one message, others keep their stack.</summary>
    /// <param name="command">Gets the action.</param>
    /// <param name="run">The work; gives the exit code.</param>
    public static void SetRun(this Command command, Func<ParseResult, CancellationToken, int> run) =>
        command.SetAction(parsed => Guard(() => Interruptible(cancel => run(parsed, cancel))));

    // Ctrl+C and 'kill' ask for an end, however long it takes to leave things whole; the second one is the system's, which ends the process at once.
    // (The parser's own handling ends it after two seconds, in the middle of what a command saves.)
    private static int Interruptible(Func<CancellationToken, int> run)
    {
        using var source = new CancellationTokenSource();
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Ask);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Ask);
        return run(source.Token);

        void Ask(PosixSignalContext context)
        {
            context.Cancel = !source.IsCancellationRequested;
            source.Cancel();
        }
    }

    private static int Guard(Func<int> run)
    {
        try
        {
            return run();
        }
        catch (UsageException e)
        {
            return Report(e.Message, Usage);
        }
        catch (OperationCanceledException)
        {
            return Report("interrupted.", Interrupted);
        }
        catch (IOException e) when (IsClosedPipe(e))
        {
            // The reader of our output (head, a closed pager) has gone: nothing is left to say, and nobody to say it to.
            return Done;
        }
        catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException or InsufficientMemoryException
            or NotSupportedException or ArgumentException or DllNotFoundException)
        {
            // An option given as --set is the command line's, wherever its mistake is found; the same mistake in a run file is a failure to read that file.
            return Report(Describe(e), e is ArgumentException or InvalidDataException && e.Message.StartsWith("--set ", StringComparison.Ordinal) ? Usage : Failed);
        }
    }

    /// <summary>Prints a message on standard error.</summary>
    /// <param name="message">For the user.</param>
    /// <param name="code">What to return to the shell.</param>
    /// <returns><paramref name="code"/>.</returns>
    public static int Report(string message, int code)
    {
        try
        {
            Console.Error.WriteLine($"iptnative: {message}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Standard error was closed by the caller, who has the exit code.
            return code;
        }
        return code;
    }

    /// <summary>What of an exception is for the user.</summary>
    public static string Describe(Exception e) => e switch
    {
        // The name of a C# parameter, which .NET appends, says nothing to a user.
        ArgumentException { ParamName: { } name } => e.Message.Replace($" (Parameter '{name}')", "", StringComparison.Ordinal),
        // .NET's own: says what was denied, not what to do.
        UnauthorizedAccessException => $"{e.Message} Give another file or folder, or the right to this one to the user who runs the program.",
        _ => e.Message,
    };

    // EPIPE as .NET reports it on Unix (errno 32) and ERROR_NO_DATA / ERROR_BROKEN_PIPE on Windows.
    private static bool IsClosedPipe(IOException e) => (e.HResult & 0xFFFF) is 32 or 109 or 232;
}

/// <summary>The command line asks for something that cannot be: exit code 2.</summary>
internal sealed class UsageException : Exception
{
    public UsageException(string message)
        : base(message)
    {
    }
}
