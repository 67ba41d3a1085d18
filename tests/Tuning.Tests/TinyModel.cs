// The shipped model, opened once for the tests that need a real one.
using IptNative.Model.Checkpoints;
using IptNative.Model.Forward;
using IptNative.Model.Tokenizer;

namespace IptNative.Tuning.Tests;

public sealed class TinyModel : IDisposable
{
    public static string Root { get; } = FindRoot();

    public static string Folder { get; } = Path.Combine(Root, "models", "t5-gym-tiny");

    public static string Gym { get; } = Path.Combine(Root, "examples", "gym");

    public TinyModel()
    {
        Checkpoint = Checkpoint.Open(Folder);
        Tokenizer = T5Tokenizer.Load(Folder, Checkpoint.Config.VocabSize);
        Frozen = FrozenT5.Load(Checkpoint, new FrozenT5Options { Threads = 2 });
    }

    public Checkpoint Checkpoint { get; }

    public T5Tokenizer Tokenizer { get; }

    public FrozenT5 Frozen { get; }

    public void Dispose()
    {
        Frozen.Dispose();
        Checkpoint.Dispose();
    }

    private static string FindRoot()
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "IptNative.sln")))
            folder = Path.GetDirectoryName(folder)!; // the tests lie inside the repository
        return folder;
    }
}
