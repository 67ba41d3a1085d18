// One walk over a configuration's options serves reading, writing, comparing and help: each record names its options once, in one order.
// Deliberately not reflection: a name, its limits and its help stand in one line that the compiler checks.
namespace IptNative.Tuning.Runs.Options;

/// <summary>What another value of an option changes.</summary>
internal enum Affects
{
    /// <summary>What is trained: a run cannot go on with another value.</summary>
    Result,

    /// <summary>The last bits only (threads, devices, what is kept or computed again).</summary>
    Rounding,

    /// <summary>Where things lie and how often something is said; a file's contents are compared by hash, not by name.</summary>
    Nothing,
}

/// <summary>The numbers that an option takes.</summary>
/// <param name="Min">Smallest.</param>
/// <param name="MinOpen">True where the smallest itself is not taken.</param>
/// <param name="Max">Largest.</param>
/// <param name="MaxOpen">True where the largest itself is not taken.</param>
internal readonly record struct NumberRange(double Min, bool MinOpen = false, double Max = double.MaxValue, bool MaxOpen = false)
{
    public static NumberRange AtLeast(double min) => new(min);

    public static NumberRange Above(double min) => new(min, MinOpen: true);

    public static NumberRange UpToBelow(double min, double max) => new(min, Max: max, MaxOpen: true);

    public bool Contains(double value) => (MinOpen ? value > Min : value >= Min) && (MaxOpen ? value < Max : value <= Max);

    /// <summary>In words, for messages and help.</summary>
    public override string ToString() => (MinOpen ? $"above {Min}" : Max == double.MaxValue ? $"{Min} or more" : $"{Min}") + (Max == double.MaxValue ? "" : MaxOpen ? $" to below {Max}" : $" to {Max}");
}

/// <summary>Walks a configuration: gets each option's value and gives back the one to use.</summary>
internal abstract class OptionVisitor
{
    /// <summary>A text that may be missing.</summary>
    public abstract string? Text(string name, string? value, string help, Affects affects = Affects.Result);

    /// <summary>A text that must be given.</summary>
    public abstract string Required(string name, string value, string help);

    /// <summary>A path, made absolute; with <paramref name="orHubName"/> a name that is no path stays as it is.</summary>
    public abstract string? FilePath(string name, string? value, string help, bool orHubName = false);

    /// <summary>A whole number.</summary>
    public abstract long Integer(string name, long value, long min, long max, string help, Affects affects = Affects.Result);

    /// <summary>A whole number that may be null.</summary>
    public abstract long? OptionalInteger(string name, long? value, long min, long max, string help, Affects affects = Affects.Result);

    /// <summary>A finite number.</summary>
    public abstract double Number(string name, double value, NumberRange range, string help);

    /// <summary>A finite number that may be null.</summary>
    public abstract double? OptionalNumber(string name, double? value, NumberRange range, string help);

    /// <summary>True or false.</summary>
    public abstract bool Switch(string name, bool value, string help, Affects affects = Affects.Result);

    /// <summary>True, false or null.</summary>
    public abstract bool? OptionalSwitch(string name, bool? value, string help);

    /// <summary>One of a few words.</summary>
    public abstract T Choice<T>(string name, T value, (string Word, T Value)[] words, string help, Affects affects = Affects.Result);

    /// <summary>Texts; one alone may stand without brackets.</summary>
    public abstract IReadOnlyList<string> Texts(string name, IReadOnlyList<string> value, string help);

    /// <summary>Whole numbers; one alone may stand without brackets.</summary>
    public abstract IReadOnlyList<int> Integers(string name, IReadOnlyList<int> value, int min, string help);

    /// <summary>An object of options.</summary>
    public abstract T Section<T>(string name, T value, Func<T, OptionVisitor, T> visit, string help);

    /// <summary>Objects of options; an item that is a text stands for the member <paramref name="shortForm"/> of one.</summary>
    public abstract IReadOnlyList<T> Sections<T>(string name, IReadOnlyList<T> value, Func<T> fresh, Func<T, OptionVisitor, T> visit, string shortForm, string help);

    /// <summary>A whole number that fits 32 bits.</summary>
    public int Int(string name, int value, int min, string help, Affects affects = Affects.Result) => (int)Integer(name, value, min, int.MaxValue, help, affects);

    /// <summary>A whole number that fits 32 bits, or null.</summary>
    public int? OptionalInt(string name, int? value, int min, string help, Affects affects = Affects.Result) => (int?)OptionalInteger(name, value, min, int.MaxValue, help, affects);
}
