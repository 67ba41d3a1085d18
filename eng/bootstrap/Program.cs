// What ./iptnative and ./test do before the program or its tests run: find packages, build, run the tests.
// Deliberately not part of the product: no file under src/ knows of it, and it knows only paths of this repository.
namespace IptNative.Bootstrap;

internal static class Program
{
    private const string Usage = """
        usage: bootstrap ROOT prepare              find the packages, build the program into artifacts/app
               bootstrap ROOT resolve [--refresh]  find the packages only; --refresh asks the sources again
               bootstrap ROOT test [--all] [NAME...]
        """;

    /// <summary>Exit code that asks the starter to build this program anew: a source of it is newer than it is (sysexits' "try again").</summary>
    private const int Outdated = 75;

    private static int Main(string[] args)
    {
        if (args.Length < 2)
        {
            Console.Error.WriteLine(Usage);
            return 2;
        }
        var house = new House(args[0]);
        string[] rest = args[2..];
        try
        {
            // The shell starter has looked already, with find(1); the Windows one has no cheap way to.
            if (house.IsNewerThan(typeof(Program).Assembly.Location))
            {
                House.Say("eng/bootstrap changed; building it anew");
                return Outdated;
            }
            switch (args[1])
            {
                case "prepare" when rest.Length == 0:
                    return AppBuilder.Prepare(house);
                case "resolve" when rest is [] or ["--refresh"]:
                    using (house.Lock())
                        PackageResolution.Ensure(house, refresh: rest.Length == 1);
                    return 0;
                case "test":
                    return TestRunner.Run(house, rest);
                default:
                    Console.Error.WriteLine(Usage);
                    return 2;
            }
        }
        catch (BootstrapException e)
        {
            Console.Error.WriteLine("iptnative: " + e.Message);
            return 1;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"iptnative: cannot prepare {house.Root}: {e.Message} The folder must be writable and have about 300 MB free.");
            return 1;
        }
    }
}

/// <summary>A failure with a message that says what was attempted, what was found and what to do.</summary>
internal sealed class BootstrapException(string message) : Exception(message);
